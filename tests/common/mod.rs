//! What the integration tests share. They need Rust and `/bin/sh` alone, so every foreign part is made here:
//!
//! - [`ns`] starts the real `pm3` (or any program) in namespaces of its own, as PID 1 or not, and tells how it ended;
//! - [`app`] is the program that pm3 is given to run: a child that does what its arguments say;
//! - [`world`] is where people type commands: a container whose PID 1 is pm3, or a machine where the first command
//!   starts a supervisor in the background;
//! - [`tty`] gives it a terminal, and a shell with job control in front of it;
//! - [`needs`] is for the tests that want node, python3 or podman after all.
//!
//! The test binary itself plays the parts of the namespace maker, the app and the shell: it starts again with
//! `PM3_TEST_ROLE` set, and [`hook`] takes over before the test harness. So nothing has to be built or found.
//!
//! Nothing here sleeps. A wait is for an event (a line, an end of file, an exit) and ends after [`PATIENCE`] with a
//! panic that shows what came instead. What a test starts dies with the test, also when it panics: each process is
//! killed by the kernel when the one that started it is gone.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this, as of a library")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod app;
pub mod deeds;
pub mod dir;
pub mod lines;
pub mod ns;
pub mod ports;
pub mod server;
pub mod tty;
pub mod world;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::exit;
use std::sync::Mutex;
use std::time::Duration;

/// The binary under test.
pub const PM3: &str = env!("CARGO_BIN_EXE_pm3");

/// How long a wait may take before the test fails. Far above what anything takes, for a machine under load.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The variable that makes the test binary play a part; the part is the first argument.
pub const ROLE: &str = "PM3_TEST_ROLE";

/// This test binary, for starting the app by hand: its arguments are `app WORD…`, and [`ROLE`] must be set.
pub fn this_binary() -> String {
    env::current_exe().unwrap().into_os_string().into_string().unwrap()
}

/// The command line of the app with this script: see [`app`].
pub fn app(words: &[&str]) -> Vec<String> {
    let mut argv = vec![this_binary(), "app".to_owned()];
    argv.extend(words.iter().map(|word| (*word).to_owned()));
    argv
}

/// The path of a foreign program, or None where it is missing: the test then returns at once. The missing ones are told
/// at the end of the test binary, one line each (`NOT RUN: 37 tests need node`); with `PM3_CI=1` the test fails
/// instead.
///
/// `tests` is how many cases the caller leaves out.
pub fn needs(program: &str, tests: usize) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    needs_one_of(program, env::split_paths(&path).map(|dir| dir.join(program)), tests)
}

/// The same of anything that is in one of these places: a package.
pub fn needs_one_of(what: &str, places: impl IntoIterator<Item = PathBuf>, tests: usize) -> Option<PathBuf> {
    let found = places.into_iter().find(|place| place.exists());
    if found.is_none() {
        assert!(env::var_os("PM3_CI").is_none_or(|set| set != "1"), "{what} is missing, and PM3_CI=1 wants it");
        lacking(what, tests);
    }
    found
}

/// So many tests cannot run here, and nothing can be installed that would change it: an old kernel. They are told as
/// those of [`needs`] are.
pub fn lacking(what: &str, tests: usize) {
    *MISSING.lock().unwrap().entry(what.to_owned()).or_default() += tests;
}

static MISSING: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Runs at exit: libtest has no place for a last word, and captures what the tests print.
extern "C" fn tell_missing() {
    if let Ok(missing) = MISSING.lock() {
        for (program, tests) in &*missing {
            eprintln!("NOT RUN: {tests} tests need {program}");
        }
    }
}

/// Called by the C library before `main`. It comes before libtest, which would start threads and swallow arguments.
#[used]
// SAFETY: the C library calls every pointer in this section once, after its own set-up, on the one thread there is.
#[unsafe(link_section = ".init_array")]
static HOOK: extern "C" fn() = hook;

extern "C" fn hook() {
    // SAFETY: registers a function that lives as long as the program.
    unsafe { libc::atexit(tell_missing) };
    if env::var_os(ROLE).is_none() {
        // A shell without job control starts what is in the background with these ignored, and children inherit that.
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: sets no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        return;
    }
    let mut words = arguments().into_iter().skip(1);
    match words.next().as_deref() {
        Some("app") => app::main(&words.collect::<Vec<_>>()),
        Some("ns") => ns::main(&words.collect::<Vec<_>>()),
        Some("shell") => tty::main(&words.collect::<Vec<_>>()),
        Some("enter") => deeds::enter(&words.collect::<Vec<_>>()),
        Some("needs") => {
            needs("no such program", 36);
            needs("no such program", 1);
            exit(0)
        }
        other => {
            eprintln!("{ROLE} is set, but {other:?} is no part that the tests know");
            exit(ns::BROKEN)
        }
    }
}

/// The arguments, before `main`. Rust has them this early with glibc; with musl they are read from /proc.
fn arguments() -> Vec<String> {
    let mut words: Vec<OsString> = env::args_os().collect();
    if words.is_empty() {
        let line = std::fs::read("/proc/self/cmdline").expect("reading /proc/self/cmdline");
        words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
        words.pop();
    }
    words.into_iter().map(|word| word.into_string().expect("the tests' arguments are UTF-8")).collect()
}
