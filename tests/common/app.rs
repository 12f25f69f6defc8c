//! The program that pm3 is given to run in tests: it does what its arguments say, one word after the other, and exits
//! with 0 after the last. It starts before Rust's runtime, so it has exactly the signals, files and terminal that it
//! was given.
//!
//! | word | does |
//! |---|---|
//! | `say:TEXT` | prints the line TEXT |
//! | `ids` | prints `ids pid=2 ppid=1 group=2 session=2` |
//! | `signals` | prints `signals blocked=0 ignored=0`, masks in hex from /proc |
//! | `fds` | prints `fds 0 1 2` |
//! | `env:NAME` | prints `NAME=value`, or `NAME unset` |
//! | `cwd`, `uid` | prints `cwd /`, `uid 1000` |
//! | `foreground` | prints `foreground yes`, `no`, or `none` where there is no terminal |
//! | `deaf` | ignores every signal that can be ignored |
//! | `listen`, `listen:CONT` | blocks all signals (that one), so that the next three words find what came since |
//! | `hear:TERM` | prints `heard SIG` for each signal until TERM has come |
//! | `hear` | the same for one signal, whichever |
//! | `tally:TERM` | counts signals until TERM has come, then prints `tally SIGUSR1=3 SIGRTMIN=500 SIGTERM=1` |
//! | `orphan [ … ]` | runs the words in an adopted process of its own session (forked twice) |
//! | `child [ … ]` | runs the words in a child |
//! | `crowd:N` | makes N orphans that end at once, and waits until they have ended |
//! | `zombies` | waits until no process in /proc is a zombie, then prints `zombies none` |
//! | `zombie` | makes a child that ends at once, and waits until it has, without reaping it |
//! | `reap` | waits for a child of its own and prints `reaped code 0` |
//! | `line` | reads a line from stdin and prints `line TEXT`, or `line end` |
//! | `send:PID:SIG:COUNT` | sends a signal, as often as said |
//! | `storm:PID:COUNT` | sends COUNT signals of all kinds that a program may catch, but TERM |
//! | `stop:SIG` | stops itself by this signal |
//! | `pause` | sleeps for ever |
//! | `exec [ PROGRAM … ]` | becomes the program |
//! | `exit:N`, `die:SIG` | ends |
//!
//! [`deeds`](super::deeds) has more, for an app under supervision, [`server`](super::server) those for one that listens.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::process::exit;

use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus};
use nix::unistd::{ForkResult, Pid, tcgetpgrp};
use pm3::supervisor::event::Sig;

use super::ns::{broken, signal};

/// The part of the app.
pub fn main(words: &[String]) -> ! {
    run(words);
    exit(0)
}

pub fn run(mut words: &[String]) {
    while let [word, rest @ ..] = words {
        words = rest;
        let (verb, argument) = word.split_once(':').unwrap_or((word, ""));
        match verb {
            "say" => say(argument),
            "ids" => say(&ids()),
            "signals" => say(&format!("signals blocked={} ignored={}", status("SigBlk:"), status("SigIgn:"))),
            "fds" => say(&fds()),
            "env" => {
                say(&std::env::var(argument).map_or(format!("{argument} unset"), |set| format!("{argument}={set}")))
            }
            "cwd" => say(&format!("cwd {}", std::env::current_dir().unwrap().display())),
            "uid" => say(&format!("uid {}", nix::unistd::geteuid())),
            "foreground" => say(foreground()),
            "deaf" => deaf(),
            "listen" if argument.is_empty() => drop(block(ALL)),
            "listen" => drop(block(1 << (sig(argument).0 - 1))),
            "hear" if argument.is_empty() => say(&format!("heard {}", next_signal())),
            "hear" => hear(sig(argument)),
            "tally" => tally(sig(argument)),
            "orphan" => orphan(take_block(&mut words)),
            "child" => {
                let block = take_block(&mut words);
                fork(|| run(block));
            }
            "crowd" => crowd(number(argument)),
            "zombies" => no_zombies(),
            "zombie" => zombie(),
            "reap" => reap(),
            "line" => say(&format!("line {}", line())),
            "send" => send(argument),
            "storm" => storm(argument),
            "stop" => raise(sig(argument)),
            "pause" => loop {
                nix::unistd::pause();
            },
            "exec" => exec(take_block(&mut words)),
            "exit" => exit(number(argument)),
            "die" => die(sig(argument)),
            _ if super::deeds::run_one(verb, argument, &mut words) => {}
            _ if super::server::run_one(verb, argument, &mut words) => {}
            _ => broken(&format!("the app does not know the word {word}")),
        }
    }
}

/// Takes `[ … ]` off the words.
pub fn take_block<'a>(words: &mut &'a [String]) -> &'a [String] {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let block = words.get(1..at).unwrap_or_default();
            *words = &words[at + 1..];
            return block;
        }
    }
    broken("a block without its ]")
}

pub fn say(line: &str) {
    // One write, so that lines of several processes do not mix; the reader may be gone.
    let _ = nix::unistd::write(std::io::stdout(), format!("{line}\n").as_bytes());
}

pub fn sig(text: &str) -> Sig {
    Sig::parse(text).unwrap_or_else(|| broken(&format!("no signal: {text}")))
}

pub fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| broken(&format!("no number: {text}")))
}

fn ids() -> String {
    let own = Pid::from_raw(0);
    let session = nix::unistd::getsid(None).unwrap();
    let group = nix::unistd::getpgid(Some(own)).unwrap();
    format!("ids pid={} ppid={} group={group} session={session}", Pid::this(), Pid::parent())
}

/// A line of /proc/self/status, without leading zeros.
fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
    match line.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

fn fds() -> String {
    let mut list = "fds".to_owned();
    for fd in 0..1024 {
        // SAFETY: F_GETFD takes no pointer.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            write!(list, " {fd}").unwrap();
        }
    }
    list
}

fn foreground() -> &'static str {
    let ours = |group| if group == nix::unistd::getpgrp() { "foreground yes" } else { "foreground no" };
    // /dev may be hidden, and stdin something else.
    let group = fs::File::open("/dev/tty").ok().and_then(|terminal| tcgetpgrp(terminal).ok());
    let group = group.or_else(|| tcgetpgrp(std::io::stdin()).ok()).or_else(|| tcgetpgrp(std::io::stdout()).ok());
    group.map_or("foreground none", ours)
}

fn deaf() {
    let (ignore, none) = ([libc::SIG_IGN, 0, 0, 0], std::ptr::null_mut::<[usize; 4]>());
    for number in 1..=64 {
        // SAFETY: this is the kernel's struct sigaction for SIG_IGN; KILL and STOP refuse.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const ignore, none, size_of::<u64>()) };
    }
}

/// Every signal there is: libc's own sets leave out 32 and 33.
const ALL: u64 = u64::MAX;

/// Blocks these too, and returns what was blocked before.
fn block(set: u64) -> u64 {
    let mut before = 0u64;
    let size = size_of::<u64>();
    // SAFETY: both sets are the kernel's.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, &raw mut before, size) };
    before
}

/// Takes the next signal of those that are blocked.
fn next_signal() -> Sig {
    let (blocked, none) = (block(0), std::ptr::null_mut::<u64>());
    loop {
        // SAFETY: the set is a kernel's one; neither the information nor a timeout is asked for.
        let number =
            unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const blocked, none, none, size_of::<u64>()) };
        if let Ok(number) = u8::try_from(number) {
            return Sig(number);
        }
    }
}

fn hear(last: Sig) {
    loop {
        let heard = next_signal();
        say(&format!("heard {heard}"));
        if heard == last {
            return;
        }
    }
}

fn tally(last: Sig) {
    let mut counts = BTreeMap::<Sig, u32>::new();
    loop {
        let heard = next_signal();
        *counts.entry(heard).or_default() += 1;
        if heard == last {
            break;
        }
    }
    say(&counts.iter().fold("tally".to_owned(), |line, (sig, count)| format!("{line} {sig}={count}")));
}

pub fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: there is one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => {
            child();
            exit(0)
        }
        Err(errno) => broken(&format!("fork: {errno}")),
    }
}

/// Forks twice; the words start once the process is adopted.
fn orphan(words: &[String]) {
    let between = fork(|| {
        let between = Pid::this();
        fork(|| {
            nix::unistd::setsid().unwrap();
            while Pid::parent() == between {
                std::thread::yield_now();
            }
            run(words);
        });
    });
    // Whoever ignores SIGCHLD is told ECHILD, at the same moment.
    let _ = nix::sys::wait::waitpid(between, None);
}

fn crowd(count: u32) {
    let (ended, held) = nix::unistd::pipe().unwrap();
    for _ in 0..count {
        let between = fork(|| {
            fork(|| {});
        });
        nix::sys::wait::waitpid(between, None).unwrap();
    }
    drop(held);
    // Every orphan held the other side until it ended.
    nix::unistd::read(&ended, &mut [0]).unwrap();
    say(&format!("crowd {count}"));
}

fn no_zombies() {
    // Nobody tells a third process about a reaping, so this asks again and again; the test bounds it.
    while fs::read_dir("/proc").unwrap().flatten().any(|entry| is_zombie(&entry)) {
        std::thread::yield_now();
    }
    say("zombies none");
}

fn is_zombie(entry: &fs::DirEntry) -> bool {
    let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

fn zombie() {
    let child = fork(|| {});
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    nix::sys::wait::waitid(Id::Pid(child), flags).unwrap();
}

fn reap() {
    match nix::sys::wait::wait() {
        Ok(WaitStatus::Exited(_, code)) => say(&format!("reaped code {code}")),
        Ok(WaitStatus::Signaled(_, sig, _)) => say(&format!("reaped signal {sig}")),
        other => say(&format!("reaped {other:?}")),
    }
}

fn line() -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line may be for another process.
    loop {
        match std::io::stdin().read(&mut byte) {
            Ok(0) if text.is_empty() => return "end".to_owned(),
            Ok(1) if byte != *b"\n" => text.extend(byte),
            Ok(_) => return String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return format!("failed: {error}"),
        }
    }
}

fn send(argument: &str) {
    let parts: Vec<&str> = argument.split(':').collect();
    let [pid, name, count] = parts[..] else { broken("send:PID:SIG:COUNT") };
    for _ in 0..number(count) {
        signal(number(pid), sig(name));
    }
}

fn storm(argument: &str) {
    let Some((pid, count)) = argument.split_once(':') else { broken("storm:PID:COUNT") };
    let kinds = (1..=64).map(Sig).filter(|sig| ![Sig::KILL, Sig::STOP, Sig::TERM].contains(sig));
    for sig in kinds.cycle().take(number(count)) {
        signal(number(pid), sig);
    }
}

fn raise(sig: Sig) {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::c_int::from(sig.0)) };
}

/// Replaces this process; a program that cannot be executed is a mistake of the test.
pub fn exec(argv: &[String]) -> ! {
    let argv: Vec<CString> = argv.iter().map(|word| CString::new(word.as_str()).unwrap()).collect();
    let Err(errno) = nix::unistd::execv(&argv[0], &argv);
    broken(&format!("exec {:?}: {errno}", argv[0]))
}

fn die(sig: Sig) -> ! {
    let number = libc::c_int::from(sig.0);
    // SAFETY: the default action runs no code.
    unsafe { libc::signal(number, libc::SIG_DFL) };
    let mut only = *SigSet::empty().as_ref();
    // SAFETY: the set is valid.
    unsafe { libc::sigaddset(&raw mut only, number) };
    // SAFETY: the set is valid, and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut()) };
    raise(sig);
    broken(&format!("{sig} did not end the app"))
}
