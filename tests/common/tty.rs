//! Terminals: a pseudo-terminal for the test to type on, and a small shell with job control to start pm3 from, as
//! somebody's shell at a terminal would.
//!
//! The shell is the leader of the terminal's session: `shell (fg | bg) -- PROGRAM ARGUMENT…` starts its one job in the
//! foreground or not. While the job has the foreground the shell waits for it, then it reads commands from the
//! terminal, a line each:
//!
//! | command | does |
//! |---|---|
//! | `fg`, `bg` | continues the job, in the foreground or not; `fg` waits for it |
//! | `jolt N` | continues the job and stops it a moment (N turns of the processor) later, as hurried fingers do, and waits for it |
//! | `wait` | waits for the job where it is |
//! | `kill SIG` | signals the job's process group |
//!
//! It tells `shell: stopped SIGTSTP` and `shell: continued`, and at the end `shell: ended code 0, foreground shell`
//! with the process group that held the terminal when the job ended: `shell`, `job` or `other`.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::exit;

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpgrp, setpgid, tcgetpgrp, tcsetpgrp};

use super::app;
use super::lines::Lines;
use super::ns::broken;

/// The test's side of a terminal. Dropping it hangs up.
pub struct Terminal {
    keys: File,
    pub screen: Lines,
}

impl Terminal {
    /// A terminal and its other side, for [`Ns::terminal`](super::ns::Ns::terminal). It does not echo.
    pub fn open() -> (Terminal, OwnedFd) {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = open(ptsname_r(&master).unwrap().as_str(), flags, Mode::empty()).unwrap();
        let mut modes = tcgetattr(&slave).unwrap();
        modes.local_flags.remove(LocalFlags::ECHO);
        modes.output_flags.remove(OutputFlags::OPOST);
        tcsetattr(&slave, SetArg::TCSANOW, &modes).unwrap();
        let keys = File::from(master.as_fd().try_clone_to_owned().unwrap());
        (Terminal { keys, screen: Lines::new("terminal", OwnedFd::from(master)) }, slave)
    }

    /// Gives the terminal this many columns and rows.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one `winsize`.
        assert_eq!(unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.keys).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Types: `\x03` is ^C, `\x1a` is ^Z.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The next line on the screen.
    pub fn line(&mut self) -> String {
        self.screen.next().unwrap_or_else(|| panic!("the terminal is closed; so far: {:#?}", self.screen.taken))
    }

    /// The next line on the screen must be this one.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line, "on the screen so far: {:#?}", self.screen.taken);
    }
}

/// The part of the shell.
pub fn main(words: &[String]) -> ! {
    let [place, dashes, argv @ ..] = words else { broken("shell (fg | bg) -- PROGRAM") };
    assert_eq!(dashes, "--");
    // As every shell with job control: the terminal's stops are for the jobs.
    for sig in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring runs no code.
        unsafe { signal(sig, SigHandler::SigIgn) }.unwrap();
    }
    let mut foreground = place == "fg";
    let job = start(argv, foreground);
    loop {
        if foreground {
            wait(job);
            foreground = false;
        }
        tcsetpgrp(std::io::stdin(), getpgrp()).unwrap();
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).unwrap() == 0 {
            broken("the terminal is closed, and the job has not ended");
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["fg"] => {
                foreground = true;
                tcsetpgrp(std::io::stdin(), job).unwrap();
                killpg(job, Signal::SIGCONT).unwrap();
                println!("shell: continued");
            }
            ["bg"] => {
                killpg(job, Signal::SIGCONT).unwrap();
                println!("shell: continued");
            }
            ["jolt", turns] => {
                let turns: u32 = turns.parse().unwrap();
                killpg(job, Signal::SIGCONT).unwrap();
                (0..turns).for_each(|_| std::hint::spin_loop());
                killpg(job, Signal::SIGTSTP).unwrap();
                wait(job);
            }
            ["wait"] => wait(job),
            ["kill", sig] => killpg(job, sig.parse::<Signal>().unwrap()).unwrap(),
            _ => broken(&format!("the shell does not know {line:?}")),
        }
    }
}

fn start(argv: &[String], foreground: bool) -> Pid {
    // SAFETY: there is one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => {
            let _ = setpgid(child, child);
            child
        }
        ForkResult::Child => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            if foreground {
                tcsetpgrp(std::io::stdin(), getpgrp()).unwrap();
            }
            for sig in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGINT, Signal::SIGQUIT] {
                // SAFETY: the default action runs no code.
                unsafe { signal(sig, SigHandler::SigDfl) }.unwrap();
            }
            app::exec(argv)
        }
    }
}

/// Returns when the job has stopped; ends when it has ended.
fn wait(job: Pid) {
    let status = waitpid(job, Some(WaitPidFlag::WUNTRACED)).unwrap();
    if let WaitStatus::Stopped(_, sig) = status {
        return println!("shell: stopped {sig}");
    }
    let ended = if let WaitStatus::Exited(_, code) = status { format!("code {code}") } else { format!("{status:?}") };
    let holder = match tcgetpgrp(std::io::stdin()).unwrap() {
        group if group == getpgrp() => "shell",
        group if group == job => "job",
        _ => "other",
    };
    println!("shell: ended {ended}, foreground {holder}");
    exit(0)
}
