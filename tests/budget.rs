//! What pm3 may cost: the size of the file, and the memory that is its own. Both are of a release build, so these tests
//! want `$PM3_BIN` (and `$PM3_BIN_MUSL` for the one of the images); `.ci/run` sets them to what it has built.
//!
//! Private dirty memory is what each further container costs the machine: the rest is shared with the file's pages. How
//! fast pm3 is lies with `tests/bench/run`, as times of a busy machine prove nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "budget/steps.rs"]
mod steps;

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::dir::Dir;
use common::ns::Ns;
use common::world::World;
use common::{PATIENCE, PM3, app, lacking};
use pm3::supervisor::event::Sig;

/// The builds under test and the most that each may weigh, in bytes: what they have come to, and a fortieth more. Of
/// the file with glibc 0.7 MB are that library, and 0.2 MB are clap and what it derives; forty verbs, YAML, schedules, the
/// protocol, shared ports and health are the rest. Held processes, spares, progress and rotation with gzip took 0.15 MB
/// between them, output that is bounded or survives the logger 0.05 MB. Only pages that are used come into memory.
const BUILDS: [(&str, u64); 2] = [("PM3_BIN", 3_400_000), ("PM3_BIN_MUSL", 2_750_000)];

/// Private dirty kB of `pm3 run`.
const RUN: u64 = 76;
/// Private dirty kB of `pm3 init` with ten apps, and of a hundred more.
const INIT: u64 = 105;
const HUNDRED: u64 = 105;

/// The builds that there are, each with its limit; the others are told as not run.
fn builds() -> Vec<(PathBuf, u64)> {
    let ci = env::var_os("PM3_CI").is_some_and(|set| set == "1");
    let mut found = Vec::new();
    for (variable, limit) in BUILDS {
        match env::var_os(variable) {
            Some(path) => found.push((PathBuf::from(path), limit)),
            // The musl target cannot be had everywhere; `.ci/run` says so.
            None if ci && variable == "PM3_BIN" => panic!("PM3_CI=1 wants $PM3_BIN, the release build"),
            None => lacking(&format!("${variable}, a release build"), 1),
        }
    }
    for (path, _) in &found {
        // The pages of a file that is not yet on the disk count as dirty, and as ours.
        File::open(path).unwrap().sync_all().unwrap();
    }
    found
}

#[test]
fn the_file_is_small() {
    for (path, most) in builds() {
        let size = fs::metadata(&path).unwrap().len();
        assert!(size <= most, "{}: {size} bytes, at most {most}", path.display());
    }
}

#[test]
fn as_the_init_of_one_command_it_needs_little_memory() {
    for (path, _) in builds() {
        let mut words = vec![path.to_str().unwrap().to_owned(), "run".to_owned(), "--".to_owned()];
        words.extend(app(&["listen", "say:ready", "hear:TERM"]));
        let mut pm3 = Ns::pid1().start(&words);
        pm3.expect("ready");
        // Once this has come through, all that belongs to the start is done.
        pm3.signal(Sig::USR1);
        pm3.expect("heard SIGUSR1");
        let dirty = private_dirty(pm3.pid);
        assert!(dirty.total <= RUN, "{}: {} kB, at most {RUN}:\n{}", path.display(), dirty.total, dirty.parts);
    }
}

#[test]
fn as_a_supervisor_it_needs_little_memory_and_little_more_per_app() {
    for (path, _) in builds() {
        let ten = with_apps(&path, 10);
        assert!(ten.total <= INIT, "{}: {} kB, at most {INIT}:\n{}", path.display(), ten.total, ten.parts);
        let more = with_apps(&path, 310).total - ten.total;
        assert!(
            more <= 3 * HUNDRED,
            "{}: {more} kB for 300 more apps, at most {HUNDRED} for each hundred",
            path.display()
        );
    }
}

/// Page faults of a verb, which are most of what it costs: each page of the file that it reads, each that it writes.
/// Half as many again would be for the words of the other verbs, if those were made too. About 90 with glibc, 100 with
/// musl, and a few more or fewer from run to run.
const VERB_FAULTS: u64 = 120;

#[test]
fn a_verb_reads_and_writes_few_pages() {
    for (path, _) in builds() {
        // The whole way of every verb but for the answer: the words, the places, the report.
        let mut verb = Command::new(&path);
        let verb = verb.args(["list", "--socket", "/no/such/socket"]).stderr(Stdio::null()).spawn().unwrap();
        let (code, faults) = faults_of(verb);
        assert_eq!(code, 69);
        assert!(faults <= VERB_FAULTS, "{}: {faults} page faults, at most {VERB_FAULTS}", path.display());
    }
}

/// How a child ended, and its page faults (getrusage(2)): the same on any machine with pages of this size.
fn faults_of(child: Child) -> (i32, u64) {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    let pid = child.id().try_into().unwrap();
    // SAFETY: both are valid for writes, and all zero is a valid rusage.
    assert_eq!(unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) }, pid);
    // SAFETY: as above, and the kernel has written it.
    let usage = unsafe { usage.assume_init() };
    (libc::WEXITSTATUS(status), (usage.ru_minflt + usage.ru_majflt).try_into().unwrap())
}

/// What a client has brought costs no more than what a file has.
#[test]
fn in_the_background_it_needs_as_little_memory() {
    for (path, _) in builds() {
        let mut world = World::bare();
        world.file("app.sh", "echo up > \"$TELL\"; exec sleep 1000");
        let entries = (0..10).map(|at| format!("[[apps]]\nname = \"app{at}\"\nscript = \"app.sh\"\n"));
        world.file("ten.toml", &entries.collect::<String>());
        world.run(&[path.to_str().unwrap(), "start", "ten.toml"]).ok();
        (0..10).for_each(|_| drop(world.told("up")));
        let supervisor = world.processes().into_iter().find(|one| one.line.contains("init --background")).unwrap();
        rests(supervisor.outside);
        let dirty = private_dirty(supervisor.outside);
        assert!(dirty.total <= INIT, "{}: {} kB, at most {INIT}:\n{}", path.display(), dirty.total, dirty.parts);
        world.end();
    }
}

fn with_apps(pm3: &Path, count: usize) -> Dirty {
    let dir = Dir::new();
    let argv = app(&["say:ready", "pause"]);
    let (binary, args) = argv.split_first().unwrap();
    // A path as long as programs have: where the tests are built must not count.
    let script = format!("{}/app", dir.path());
    std::os::unix::fs::symlink(binary, &script).unwrap();
    let mut text = String::new();
    for at in 0..count {
        writeln!(text, "[[apps]]\nname = \"app{at}\"\nscript = {script:?}\nargs = {args:?}\n").unwrap();
    }
    let file = dir.file("pm3.toml", &text);
    // Through the logger, as is usual, but without names.
    let ns = Ns::pid1().env("PM3_HOME", dir.path()).env("PM3_LOG_MODE", "raw");
    let mut pm3 = ns.start(&[pm3.to_str().unwrap(), "init", &file]);
    for _ in 0..count {
        pm3.expect("ready");
    }
    // It tells its state between two turns of its loop: what came before is done.
    pm3.signal(Sig::USR1);
    let last = format!("app{}: id ", count - 1);
    while !pm3.err_line().contains(&last) {}
    // When it waits for ever, it has given back what the work took.
    rests(pm3.pid);
    private_dirty(pm3.pid)
}

/// A wake-up that has no reason is found without waiting for one: by how pm3 sleeps.
#[test]
fn it_sleeps_without_a_timeout_while_nothing_is_due() {
    let dir = Dir::new();
    let argv = app(&["say:ready", "pause"]);
    let (script, args) = argv.split_first().unwrap();
    let file = dir.file("pm3.toml", &format!("[[apps]]\nname = \"app\"\nscript = {script:?}\nargs = {args:?}\n"));
    let run = [PM3, "run", "--"].into_iter().chain(argv.iter().map(String::as_str)).collect();
    for words in [vec![PM3, "init", &file], run] {
        let mut pm3 = Ns::pid1().env("PM3_HOME", dir.path()).start(&words);
        pm3.expect("ready");
        rests(pm3.pid);
    }
}

/// Waits until pm3 waits for ever.
fn rests(pid: i32) {
    let deadline = Instant::now() + PATIENCE;
    while !sleeps_for_ever(pid) {
        assert!(Instant::now() < deadline, "still in {}", syscall(pid));
        std::thread::yield_now();
    }
}

/// What a process waits in: the number of the system call and its arguments, or `running` (proc_pid_syscall(5)).
fn syscall(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap()
}

/// epoll_wait has its timeout as the fourth argument, where -1 is none; rt_sigtimedwait a pointer as the third.
fn sleeps_for_ever(pid: i32) -> bool {
    let call = syscall(pid);
    let words: Vec<&str> = call.split_whitespace().collect();
    match words[0].parse::<i64>() {
        Ok(libc::SYS_epoll_wait | libc::SYS_epoll_pwait) => words[4].ends_with("ffffffff"),
        Ok(libc::SYS_rt_sigtimedwait) => words[3] == "0x0",
        Ok(_) | Err(_) => false,
    }
}

/// A process' private dirty memory in kB, and where it lies, for a message.
struct Dirty {
    total: u64,
    parts: String,
}

fn private_dirty(pid: i32) -> Dirty {
    let (mut total, mut parts, mut mapping) = (0, String::new(), String::new());
    for line in fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        let (key, rest) = line.split_once(' ').unwrap();
        if !key.ends_with(':') {
            mapping = line.to_owned();
        } else if key == "Private_Dirty:" {
            let kb: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap();
            if kb > 0 {
                writeln!(parts, "{kb:>6} {mapping}").unwrap();
            }
            total += kb;
        }
    }
    Dirty { total, parts }
}
