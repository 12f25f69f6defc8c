//! What the tests share: an init's beginnings (blocked signals, a signalfd), scratch files, waiting for ends.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::{env, fs, process};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use pm3::supervisor::event::{End, Failure};
use pm3::sys::reap::{self, Change};
use pm3::sys::signals::{self, SignalFd};
use pm3::sys::spawn::{self, Child, Plan, Stream};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: u16 = 20_000;

pub struct World {
    signals: SignalFd,
    ends: Vec<(u32, Change)>,
    dir: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl World {
    /// Blocks all signals of this process, as init does.
    pub fn new() -> World {
        signals::block_all();
        let dir = env::temp_dir().join(format!("pm3-sys-{}", process::id()));
        fs::create_dir(&dir).unwrap();
        World { signals: SignalFd::new().unwrap(), ends: vec![], dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The first end or stop of `pid` that was not asked for yet.
    pub fn change(&mut self, pid: u32) -> Change {
        loop {
            if let Some(at) = self.ends.iter().position(|(of, _)| *of == pid) {
                return self.ends.remove(at).1;
            }
            self.signals.read_all(&mut vec![]).unwrap();
            let before = self.ends.len();
            reap::reap(&mut |pid, change| self.ends.push((pid, change)));
            if self.ends.len() == before {
                readable(self.signals.as_fd());
            }
        }
    }

    pub fn end(&mut self, pid: u32) -> End {
        match self.change(pid) {
            Change::Ended(end) => end,
            Change::Stopped(sig) => panic!("{pid} was stopped by {sig}"),
        }
    }

    /// Runs the plan to its end, with its standard output in a file; returns the end and what was written.
    pub fn run(&mut self, mut plan: Plan) -> (End, String) {
        let out = self.path("out");
        plan.stdout = Stream::File(c_path(&out));
        let child = spawn::spawn(&plan).unwrap();
        executed(&child).unwrap();
        let end = self.end(child.pid);
        (end, fs::read_to_string(out).unwrap())
    }

    /// Starts the plan, which fails; its process is reaped, and ended with the code that the failure asks for.
    pub fn fail(&mut self, plan: &Plan) -> Failure {
        let child = spawn::spawn(plan).unwrap();
        let failure = executed(&child).unwrap_err();
        assert_eq!(self.end(child.pid), End::Code(failure.exit_code()), "{failure}");
        failure
    }
}

/// Waits until the child executes its program or has failed to.
pub fn executed(child: &Child) -> Result<(), Failure> {
    loop {
        match spawn::outcome(&child.status) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => readable(child.status.as_fd()),
        }
    }
}

/// Waits until there is something to read.
pub fn readable(fd: BorrowedFd) {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = nix::poll::poll(&mut fds, PollTimeout::from(PATIENCE)).unwrap();
    assert_eq!(ready, 1, "nothing came");
}

/// A plan for a program, with nothing else set.
pub fn program(argv: &[&str]) -> Plan {
    let argv: Vec<CString> = argv.iter().map(|arg| CString::new(*arg).unwrap()).collect();
    Plan { candidates: vec![argv[0].clone()], argv, env: vec![c"PATH=/usr/bin:/bin".into()], ..Plan::default() }
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}
