//! Another program's output: complete, bounded, and nothing left of the program.

use std::ffi::OsStr;
use std::time::Duration;

use pm3::sys::capture::{self, Bounds};
use pm3::sys::fork;

use crate::common::lines::Lines;
use crate::common::{PATIENCE, this_binary};
use crate::world::World;

crate::tests![TESTS:
    what_is_complete_is_enough,
    it_starts_as_from_a_shell,
    why_there_is_no_answer,
    nothing_is_left_of_it,
    it_dies_with_who_asked,
];

const BOUNDS: Bounds = Bounds { patience: PATIENCE, most: 1 << 20 };

/// The output of a shell's script, once it ends with a full stop and a line break.
fn sh(script: &str, bounds: Bounds) -> Result<String, String> {
    let words: [&OsStr; 2] = ["-c".as_ref(), script.as_ref()];
    let output = capture::run("sh", &words, bounds, &|output| output.ends_with(b".\n"));
    output.map(|output| String::from_utf8(output).unwrap())
}

fn what_is_complete_is_enough() {
    // It does not wait for the end.
    assert_eq!(sh("echo one; echo two.; while :; do :; done", BOUNDS).unwrap(), "one\ntwo.\n");
    let large = sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i + 1)); done; echo .", BOUNDS).unwrap();
    assert_eq!(large.len(), 20_000 * 11 + 2);
}

fn it_starts_as_from_a_shell() {
    let _world = World::new();
    // Every signal is blocked here; the app begins with none blocked or ignored, and without our descriptors.
    let said = sh(&format!("PM3_TEST_ROLE=1 {} app signals fds; echo .", this_binary()), BOUNDS).unwrap();
    assert_eq!(said, "signals blocked=0 ignored=0\nfds 0 1 2\n.\n");
}

fn why_there_is_no_answer() {
    let hurried = Bounds { patience: Duration::from_millis(50), ..BOUNDS };
    let short = Bounds { most: 1000, ..BOUNDS };
    for (script, bounds, why) in [
        ("exit 3", BOUNDS, "it ended with code 3 before it had answered"),
        ("echo half", BOUNDS, "it ended with code 0 before it had answered"),
        ("kill -9 $$", BOUNDS, "it was ended by SIGKILL before it had answered"),
        ("echo half; while :; do :; done", hurried, "it took longer than 0.05 s"),
        ("exec >&-; while :; do :; done", hurried, "it closed its output before it had answered"),
        ("while :; do echo 0123456789; done", short, "it wrote more than 1000 bytes"),
    ] {
        assert_eq!(sh(script, bounds).unwrap_err(), why, "{script}");
    }
    let ask = |program: &str| capture::run(program, &[], BOUNDS, &|_| true).unwrap_err();
    assert_eq!(ask("pm3-no-such-program"), "pm3-no-such-program is not in PATH; install it, or set PATH");
    assert_eq!(ask("/etc/passwd"), "/etc/passwd could not be started: permission denied");
    assert_eq!(ask("/no/such"), "/no/such could not be started: no such file or directory");
}

/// Its children hold a pipe open that is ours to read: it ends when they do.
fn nothing_is_left_of_it() {
    let world = World::new();
    for (script, bounds) in [
        ("sh -c 'echo up >&3; while :; do :; done' & read x < /dev/null; wait", Duration::from_millis(500)),
        ("sh -c 'echo up >&3; while :; do :; done' & echo .; wait", PATIENCE),
    ] {
        let fifo = world.path("held");
        let _ = std::fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reading = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let script = format!("exec 3> {}; {script}", fifo.display());
        let _ = sh(&script, Bounds { patience: bounds, ..BOUNDS });
        // Ours was open for writing, too, so that the shell did not wait for us.
        let only_reads = std::fs::File::open(&fifo).unwrap();
        drop(reading);
        let said = Lines::new("the pipe", only_reads).rest();
        assert!(said.is_empty() || said == ["up"], "{said:?}");
    }
}

/// Init gives up a child that reads a file; what that child had started goes with it.
fn it_dies_with_who_asked() {
    let world = World::new();
    let fifo = world.path("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("echo up > {0}; exec 3> {0}; while :; do :; done", fifo.display());
    let worker = fork::compute(move || sh(&script, BOUNDS).unwrap_or_default().into_bytes()).unwrap();
    let mut held = Lines::new("the pipe", std::fs::File::open(&fifo).unwrap());
    assert_eq!(held.next().as_deref(), Some("up"));
    let mut again = Lines::new("the pipe", std::fs::File::open(&fifo).unwrap());
    fork::give_up(&worker);
    assert_eq!(again.next(), None);
    assert_eq!(held.next(), None);
}
