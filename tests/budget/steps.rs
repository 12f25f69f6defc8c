//! What a line of output costs the logger: its instructions, counted one by one as a debugger steps through them
//! (ptrace(2), PTRACE_SINGLESTEP). That needs no tool and no counter of the processor, and a busy machine changes nothing.
//! How long they take is for `tests/bench/logs`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::common::dir::Dir;
use super::common::ns::{Ns, Proc};
use super::common::{PATIENCE, app, lacking};
use super::{builds, rests};

/// Instructions for a line of 100 bytes in each form, at most, with glibc and with musl: what they have come to, and a
/// quarter more, as glibc copies and searches with what vectors the processor has. musl does so word by word. Raw output is
/// not looked at line by line.
const FORMS: [(&str, [u64; 2]); 4] = [
    ("log_mode = \"raw\"", [20, 40]),
    ("log_mode = \"raw\"\ntime = true", [240, 550]),
    ("log_mode = \"prefix\"", [240, 560]),
    ("log_mode = \"json\"", [1_000, 1_400]),
];

/// Lines that are written at once: what the second has more is those lines' alone.
const FEW: usize = 10;
const MANY: usize = 50;

#[test]
fn a_line_takes_few_instructions() {
    for (path, _) in builds() {
        let is_musl = path.to_str().is_some_and(|path| path.contains("musl"));
        for (keys, [glibc, musl]) in FORMS {
            let most = if is_musl { musl } else { glibc };
            let Some(each) = of_a_line(&path, keys) else { return };
            println!("{}: {each} instructions a line with {keys:?}", path.display());
            assert!(each <= most, "{}: {each} instructions a line with {keys:?}, at most {most}", path.display());
        }
    }
}

/// None: this machine does not let us look, which is told.
fn of_a_line(pm3: &Path, keys: &str) -> Option<u64> {
    let dir = Dir::new();
    let out = format!("{}/out", dir.path());
    let line = format!("{:.<99}", "GET /api/v1/items/17 HTTP/1.1 200 took 12 ms, agent \"curl\", from 10.0.0.17 ");
    let blocks = [MANY, FEW, MANY];
    let mut words = vec!["listen".to_owned(), "say:ready".to_owned()];
    for (at, lines) in blocks.iter().enumerate() {
        words.extend([
            "hear".to_owned(),
            format!("say:{}", vec![&*line; *lines].join("\n")),
            format!("touch:{}/{at}", dir.path()),
        ]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["pause"]).collect();
    let (script, args) = app(&words).split_first().map(|(script, args)| (script.clone(), args.to_vec())).unwrap();
    let text = format!("[[apps]]\nname = \"app\"\nscript = {script:?}\nargs = {args:?}\nout_file = {out:?}\n{keys}\n");
    let file = dir.file("pm3.toml", &text);
    let init = Ns::pid1().env("PM3_HOME", dir.path()).start(&[pm3.to_str().unwrap(), "init", &file]);
    let lines = || fs::read(&out).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
    until("the first line", || lines() == 1);
    let (logger, writer) = children(&init);
    rests(logger);
    let Some(mut stepped) = Stepped::stop(logger) else {
        lacking("ptrace(2) on x86-64", 1);
        assert!(std::env::var_os("PM3_CI").is_none_or(|set| set != "1"), "PM3_CI=1 wants ptrace(2)");
        return None;
    };
    let (mut expected, mut counts) = (1, Vec::new());
    for (at, count) in blocks.iter().enumerate() {
        // SAFETY: kill(2) takes no pointers; it is a child of the init that has been started here.
        assert_eq!(unsafe { libc::kill(writer, libc::SIGUSR1) }, 0);
        until("a block is written", || fs::exists(format!("{}/{at}", dir.path())).unwrap());
        // With the line that says what it has heard.
        expected += count + 1;
        counts.push(stepped.until_it_waits(|| lines() == expected));
    }
    Some((counts[2] - counts[1]) / (MANY - FEW) as u64)
}

fn until(what: &str, is_it: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_it() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// The logger and the app.
fn children(init: &Proc) -> (i32, i32) {
    let read = |path: String| fs::read_to_string(path).unwrap();
    let pids = read(format!("/proc/{0}/task/{0}/children", init.pid));
    let (loggers, apps): (Vec<i32>, Vec<i32>) = pids
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .partition(|pid: &i32| read(format!("/proc/{pid}/comm")) == "pm3-logger\n");
    (loggers[0], apps[0])
}

/// A process that takes its steps one by one. It goes on by itself when this is dropped.
struct Stepped {
    pid: i32,
}

impl Stepped {
    #[cfg(not(target_arch = "x86_64"))]
    fn stop(_: i32) -> Option<Stepped> {
        None
    }

    #[cfg(target_arch = "x86_64")]
    fn stop(pid: i32) -> Option<Stepped> {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: this request has no pointers that are followed.
        if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) } != 0 {
            return None;
        }
        let stepped = Stepped { pid };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) }, 0);
        stepped.has_stopped();
        Some(stepped)
    }

    fn has_stopped(&self) {
        let mut status = 0;
        // SAFETY: the status is valid for writes.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) }, self.pid);
        assert!(libc::WIFSTOPPED(status), "it has ended: {status:#x}");
    }

    /// Instructions until it would wait for ever and all is done. One that repeats itself counts once.
    #[cfg(target_arch = "x86_64")]
    fn until_it_waits(&mut self, is_done: impl Fn() -> bool) -> u64 {
        let none = std::ptr::null_mut::<libc::c_void>();
        let (mut count, mut before) = (0, 0);
        loop {
            // SAFETY: this request has no pointers that are followed.
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, none, none) }, 0);
            self.has_stopped();
            // SAFETY: all zero is a valid set of registers.
            let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
            // SAFETY: the registers are valid for writes, and the process is stopped.
            assert_eq!(unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, none, &raw mut registers) }, 0);
            count += u64::from(registers.rip != before);
            before = registers.rip;
            let is_wait =
                [libc::SYS_epoll_wait, libc::SYS_epoll_pwait].map(i64::cast_unsigned).contains(&registers.rax);
            if is_wait && registers.r10 as u32 == u32::MAX && self.is_at_call(registers.rip) && is_done() {
                return count;
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn until_it_waits(&mut self, _: impl Fn() -> bool) -> u64 {
        unreachable!("it is stepped through on x86-64 alone")
    }

    /// The next instruction is `syscall`.
    #[cfg(target_arch = "x86_64")]
    fn is_at_call(&self, at: u64) -> bool {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the address is another process' and is read by the kernel, which answers for it.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, at as *mut libc::c_void, none) };
        word.to_le_bytes().starts_with(&[0x0f, 0x05])
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: this request has no pointers that are followed.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, none, none) };
    }
}
