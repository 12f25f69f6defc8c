//! More words of the app: those that a supervised one needs, which has no stdin and is started again and again.
//!
//! | word | does |
//! |---|---|
//! | `gate:PATH` | waits until the test opens the gate, a FIFO: see [`Gate`] |
//! | `hold:PATH` | writes the line `held` to a FIFO and keeps it open; its reader sees the end when the last holder is gone |
//! | `first:PATH [ … ]` | runs the words in the first process alone that comes here; each instance has a first one |
//! | `status:KEY` | prints `KEY value`, a line of /proc/self/status |
//! | `limit:open files` | prints `open files soft hard`, a line of /proc/self/limits |
//! | `nice` | prints `nice 5` |
//! | `file:PATH` | prints `PATH: ` and what is in it |
//! | `grow:MIB` | takes so much private memory and keeps it |
//! | `pour:MIB` | writes so much, as fast as it goes: numbered lines of 128 bytes, see [`poured`] |
//! | `smear:MIB` | writes so much, all one line that never ends |
//! | `touch:PATH` | makes an empty file |
//! | `nameless [ … ]` | runs the words without an environment, in a program started anew |
//! | `group:SIG` | sends a signal to its process group, itself included |
//! | `bind` | listens at a free TCP port for as long as it lives |
//! | `switches` | prints `switches N`: how often PID 1 has gone to rest so far |
//! | `restrict:PID:KIND:N` | sets a soft limit of another process, `nofile`, `nproc` or `fsize`, and prints `was N` |
//! | `fill` | makes children until no more can be made, then prints `full` |
//! | `end` | ends and reaps all its children |
//! | `flee` | goes on in a new child and ends, 2,000 times, then rests: whoever looks for it finds its last pid |
//! | `busy:N` | makes N children and reaps them, one after the other |

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::sys::stat::Mode;
use nix::unistd::ForkResult;
use pm3::supervisor::event::Sig;

use super::app::{fork, number, run, say, sig, take_block};
use super::ns::broken;
use super::{ROLE, this_binary};

/// The test's side of a FIFO that apps wait at.
pub struct Gate {
    file: File,
    pub path: String,
}

impl Gate {
    pub fn new(path: String) -> Gate {
        nix::unistd::mkfifo(path.as_str(), Mode::from_bits_truncate(0o666)).unwrap();
        // For both: neither this nor an app's opening has to wait for the other.
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Gate { file, path }
    }

    /// Lets one pass: who waits, or who comes next.
    pub fn open(&mut self) {
        self.file.write_all(b".").unwrap();
    }
}

/// Does the word, if it is one of these.
pub fn run_one(verb: &str, argument: &str, words: &mut &[String]) -> bool {
    match verb {
        "gate" => gate(argument),
        "bind" => std::mem::forget(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
        "hold" => hold(argument),
        "first" => {
            let block = take_block(words);
            if is_first(argument) {
                run(block);
            }
        }
        "status" => say(&format!("{argument} {}", line_of("/proc/self/status", &format!("{argument}:")))),
        "limit" => say(&format!("{argument} {}", line_of("/proc/self/limits", &format!("Max {argument}")))),
        // SAFETY: getpriority takes numbers; the process 0 is this one.
        "nice" => say(&format!("nice {}", unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })),
        "file" => say(&format!("{argument}: {}", fs::read_to_string(argument).unwrap_or_default().trim())),
        "grow" => std::mem::forget(vec![1u8; number::<usize>(argument) << 20]),
        "pour" => pour(number(argument)),
        "smear" => (0..number::<usize>(argument) * 16).for_each(|_| put(&[b'x'; 64 << 10])),
        "touch" => drop(File::create(argument).unwrap_or_else(|error| broken(&format!("touch {argument}: {error}")))),
        "nameless" => nameless(take_block(words)),
        // SAFETY: kill takes numbers; the process 0 is the own group.
        "group" => drop(unsafe { libc::kill(0, libc::c_int::from(sig(argument).0)) }),
        "switches" => say(&format!("switches {}", line_of("/proc/1/status", "voluntary_ctxt_switches:"))),
        "restrict" => restrict(argument),
        "fill" => fill(),
        "end" => end_children(),
        "flee" => flee(),
        "busy" => (0..number(argument)).for_each(|_: u32| assert!(nix::sys::wait::waitpid(fork(|| {}), None).is_ok())),
        _ => return false,
    }
    true
}

fn gate(path: &str) {
    let mut passed = [0];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut passed));
    read.unwrap_or_else(|error| broken(&format!("gate {path}: {error}")));
}

fn hold(path: &str) {
    let opened = OpenOptions::new().write(true).open(path);
    let mut file = opened.unwrap_or_else(|error| broken(&format!("hold {path}: {error}")));
    file.write_all(b"held\n").unwrap();
    std::mem::forget(file);
}

fn is_first(path: &str) -> bool {
    let instance = std::env::var("NODE_APP_INSTANCE").unwrap_or_default();
    OpenOptions::new().write(true).create_new(true).open(format!("{path}-{instance}")).is_ok()
}

/// What follows a key, with single blanks.
fn line_of(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("is not there");
    line.split_whitespace().filter(|word| !["files", "processes", "bytes"].contains(word)).collect::<Vec<_>>().join(" ")
}

/// The line with this number that `pour` writes.
pub fn poured(number: usize) -> [u8; 128] {
    let mut line = [b'.'; 128];
    let text = format!("{number:12} ");
    line[..text.len()].copy_from_slice(text.as_bytes());
    line[127] = b'\n';
    line
}

fn pour(mib: usize) {
    let lines = (mib << 20) / 128;
    for first in (0..lines).step_by(512) {
        put(&(first..(first + 512).min(lines)).flat_map(poured).collect::<Vec<u8>>());
    }
}

/// Writes all of this, and not in lines as Rust's stdout does.
fn put(bytes: &[u8]) {
    let out = std::io::stdout();
    let written = File::from(out.as_fd().try_clone_to_owned().unwrap()).write_all(bytes);
    written.unwrap_or_else(|error| broken(&format!("stdout: {error}")));
}

fn nameless(words: &[String]) {
    let mut command = Command::new(this_binary());
    let error = command.env_clear().env(ROLE, "1").arg("app").args(words).exec();
    broken(&format!("exec: {error}"));
}

fn restrict(argument: &str) {
    let parts: Vec<&str> = argument.split(':').collect();
    let [pid, kind, soft] = parts[..] else { broken("restrict:PID:KIND:N") };
    let kind = match kind {
        "nproc" => libc::RLIMIT_NPROC,
        "fsize" => libc::RLIMIT_FSIZE,
        _ => libc::RLIMIT_NOFILE,
    };
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the old limit only.
    let got = unsafe { libc::prlimit(number(pid), kind, std::ptr::null(), &raw mut old) };
    let new = libc::rlimit { rlim_cur: number(soft), ..old };
    // SAFETY: reads the new limit only.
    let set = unsafe { libc::prlimit(number(pid), kind, &raw const new, std::ptr::null_mut()) };
    if (got, set) != (0, 0) {
        broken(&format!("prlimit: {}", std::io::Error::last_os_error()));
    }
    say(&format!("was {}", old.rlim_cur));
}

fn fill() {
    // SAFETY: there is one thread, so the child may do anything.
    while let Ok(ForkResult::Parent { .. }) = unsafe { nix::unistd::fork() }.inspect(|side| {
        if matches!(side, ForkResult::Child) {
            run(&["pause".to_owned()]);
        }
    }) {}
    say("full");
}

fn flee() -> ! {
    /// If nobody reaped them, these are still a small part of the machine's process numbers.
    const GENERATIONS: u32 = 2_000;
    for _ in 0..GENERATIONS {
        // SAFETY: there is one thread, so the child may do anything.
        match unsafe { nix::unistd::fork() } {
            Ok(ForkResult::Child) => {}
            Ok(ForkResult::Parent { .. }) => exit(0),
            Err(errno) => broken(&format!("fork: {errno}")),
        }
    }
    run(&["pause".to_owned()]);
    exit(0)
}

fn end_children() {
    let own = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    for pid in fs::read_to_string(own).unwrap().split_whitespace() {
        super::ns::signal(number(pid), Sig::KILL);
    }
    while nix::sys::wait::wait().is_ok() {}
}

/// A program in the namespaces of another process: `PID PROGRAM ARGUMENT…`. Ends as the program does.
pub fn enter(words: &[String]) -> ! {
    let [pid, argv @ ..] = words else { broken("enter PID PROGRAM") };
    super::ns::die_with_parent();
    let same = |name: &str| {
        let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
        link(pid) == link("self")
    };
    // All are opened first: this /proc is out of sight in the other mount namespace.
    let theirs: Vec<File> = ["user", "pid", "mnt"]
        .into_iter()
        .filter(|name| !same(name))
        .map(|name| {
            File::open(format!("/proc/{pid}/ns/{name}")).unwrap_or_else(|error| broken(&format!("{name}: {error}")))
        })
        .collect();
    // Who owns the process may enter, and be taken for it.
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap_or_else(|error| broken(&format!("{pid}: {error}"))).uid();
    if owner != 0 {
        super::ns::become_poor(owner);
    }
    let here = std::env::current_dir();
    for namespace in theirs {
        nix::sched::setns(namespace, nix::sched::CloneFlags::empty())
            .unwrap_or_else(|errno| broken(&format!("setns: {errno}")));
    }
    // A mount namespace is entered at its root; what was made for a test is at the same place in each.
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    let child = fork(|| {
        super::ns::die_with_parent();
        let error = Command::new(&argv[0]).args(&argv[1..]).exec();
        broken(&format!("exec {:?}: {error}", argv[0]))
    });
    match nix::sys::wait::waitpid(child, None) {
        Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => exit(code),
        other => broken(&format!("the entered program: {other:?}")),
    }
}
