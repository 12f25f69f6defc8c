//! What the tests share: an init's beginnings (blocked signals, a signalfd, orphans), scratch files, and what was
//! started with its output. When a test ends, well or not, everything that it started is killed.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::{env, fs, process};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use pm3::supervisor::event::{End, Failure, Sig};
use pm3::sys::proc::Processes;
use pm3::sys::reap::{self, Change, Children};
use pm3::sys::signals::{self, SignalFd};
use pm3::sys::spawn::{self, Child, Plan, Progress, Stream};
use pm3::sys::{kill, place};

use crate::alone::SCRATCH;
use crate::common::lines::Lines;
use crate::common::{PATIENCE, ROLE, app};

/// The first user that is not root: `nobody` by most, though nothing here needs the name.
pub const STRANGER: u32 = 65534;

pub struct World {
    pub signals: SignalFd,
    changes: Vec<(u32, Change)>,
    dir: PathBuf,
    started: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        let mut left = vec![];
        while reap::reap(&mut |_, _| {}) != Children::None {
            Processes::new().everything(&mut left);
            for pid in left.drain(..) {
                kill::process(pid, Sig::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl World {
    /// Makes this process an init: all signals are blocked, and orphans come to it.
    pub fn new() -> World {
        signals::block_all();
        place::become_subreaper().unwrap();
        let base = env::var_os(SCRATCH).map_or_else(env::temp_dir, PathBuf::from);
        let dir = base.join(format!("pm3-{}", process::id()));
        fs::create_dir(&dir).unwrap();
        World { signals: SignalFd::new().unwrap(), changes: vec![], dir, started: 0 }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What becomes of `pid`, and was not asked for yet.
    pub fn change(&mut self, pid: u32) -> Change {
        loop {
            if let Some(at) = self.changes.iter().position(|(of, _)| *of == pid) {
                return self.changes.remove(at).1;
            }
            self.signals.read_all(&mut vec![]).unwrap();
            let before = self.changes.len();
            reap::reap(&mut |pid, change| self.changes.push((pid, change)));
            if self.changes.len() == before {
                readable(&self.signals);
            }
        }
    }

    pub fn end(&mut self, pid: u32) -> End {
        match self.change(pid) {
            Change::Ended(end) => end,
            Change::Stopped(sig) => panic!("{pid} was stopped by {sig}"),
        }
    }

    /// Starts the plan, whose standard output comes here.
    pub fn start(&mut self, mut plan: Plan) -> Run {
        self.started += 1;
        let fifo = self.path(&format!("out-{}", self.started));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        // Whoever the plan says may write, whatever our umask.
        fs::set_permissions(&fifo, fs::Permissions::from_mode(0o666)).unwrap();
        let out = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo).unwrap();
        fcntl(&out, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        plan.stdout = Stream::File(c_string(&fifo));
        let child = spawn::spawn(&plan).unwrap();
        executed(&child).unwrap();
        Run { pid: child.pid, out: Lines::new("the app", out) }
    }

    /// Runs the plan to its end, which must be a good one, and returns what it printed.
    pub fn lines(&mut self, plan: Plan) -> Vec<String> {
        let mut run = self.start(plan);
        let lines = run.out.rest();
        assert_eq!(self.end(run.pid), End::Code(0), "{lines:?}");
        lines
    }

    /// Starts the plan, which fails; its process is reaped, and ended with the code that the failure asks for.
    pub fn fail(&mut self, plan: &Plan) -> Failure {
        let child = spawn::spawn(plan).unwrap();
        let failure = executed(&child).unwrap_err();
        assert_eq!(self.end(child.pid), End::Code(failure.exit_code()), "{failure}");
        failure
    }
}

/// Something that runs.
pub struct Run {
    pub pid: u32,
    pub out: Lines,
}

impl Run {
    pub fn line(&mut self) -> String {
        self.out.next().expect("a line before the end")
    }
}

/// Waits until the child executes its program or has failed to.
pub fn executed(child: &Child) -> Result<(), Failure> {
    loop {
        match spawn::outcome(&child.status) {
            Poll::Ready(Progress::Failed(failure)) => return Err(failure),
            Poll::Ready(Progress::Executed) => return Ok(()),
            Poll::Ready(Progress::Intercepted(_)) => {}
            Poll::Pending => readable(&child.status),
        }
    }
}

/// Waits until there is something to read.
pub fn readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = nix::poll::poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing came");
}

/// A plan for the tests' app, with nothing else set.
pub fn actor(words: &[&str]) -> Plan {
    let mut plan = program(&app(words));
    plan.env = vec![CString::new(format!("{ROLE}=1")).unwrap()];
    plan
}

/// A plan for any program, with nothing else set.
pub fn program(argv: &[impl AsRef<str>]) -> Plan {
    let argv: Vec<CString> = argv.iter().map(|arg| CString::new(arg.as_ref()).unwrap()).collect();
    Plan { candidates: vec![argv[0].clone()], argv, ..Plan::default() }
}

pub fn sh(script: &str) -> Plan {
    program(&["/bin/sh", "-c", script])
}

pub fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// Gives up root's rights, if we have them. In a user namespace without other users, root has none that count here.
pub fn give_up_rights() {
    if nix::unistd::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
        let _ = nix::unistd::setgroups(&[]);
        let _ = nix::unistd::setresgid(gid, gid, gid);
        let _ = nix::unistd::setresuid(uid, uid, uid);
    }
}

/// Makes an empty directory this process's root.
pub fn enter_root(dir: &Path) {
    if !nix::unistd::geteuid().is_root() {
        // The right to it comes with a user namespace of one's own.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).expect("this test needs user namespaces, or root");
    }
    nix::unistd::chroot(dir).unwrap();
    nix::unistd::chdir("/").unwrap();
}
