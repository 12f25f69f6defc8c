//! Starting a process. A fork-like clone(2): the child is a copy of init's single thread, sets itself up step by step
//! and executes its program; the first step that fails is written to a close-on-exec socket, so that a message names
//! it. Everything that needs memory or a file is prepared before, because the copy may not allocate. Nothing here
//! waits: whether the program executes is read from the socket when the loop says that it is readable.
//!
//! `clone3` would be newer, but Docker's default seccomp profile answers ENOSYS. A pidfd is not needed: init alone
//! reaps its children, in one place, so a pid that it has not reaped cannot have been given to someone else.

mod child;
mod diagnose;
pub mod ids;
mod record;

pub(super) use child::no_new_privs;

use std::ffi::{CString, c_char, c_long};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::task::Poll;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use record::Said;

use super::errno;
use super::fds::{self, Range};
use super::intercept::Calls;
use super::signals::Inherited;
use crate::supervisor::event::{Failure, Limit, Sig, Stage};

/// Everything a child needs to become its program.
#[derive(Debug, Default)]
pub struct Plan {
    pub argv: Vec<CString>,
    /// Paths to execute, tried in order as execvp(3) does; see [`candidates`].
    pub candidates: Vec<CString>,
    /// `NAME=value`. A `LISTEN_PID` that names us is made to name the child (sd_listen_fds(3)).
    pub env: Vec<CString>,
    /// None: where pm3 is.
    pub cwd: Option<CString>,
    pub session: Session,
    pub stdin: Stdin,
    pub stdout: Stream,
    pub stderr: Stream,
    pub limits: Vec<Limit>,
    /// The limit of open files that pm3 itself was given, before it raised its own (`fds::raise_limit`). The child
    /// gets it back unless `limits` has its own.
    pub nofile: Option<Range>,
    pub umask: Option<u16>,
    /// An absolute nice value, -20 to 19.
    pub nice: Option<i8>,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i16>,
    /// A name of /etc/passwd or a number.
    pub user: Option<Box<str>>,
    /// A name of /etc/group or a number; None with a user: that user's.
    pub group: Option<Box<str>>,
    pub no_new_privs: bool,
    pub intercept: Intercept,
    /// Where it cannot be, the start fails.
    pub must_intercept: bool,
    /// What the child gets when pm3 dies.
    pub pdeathsig: Option<Sig>,
    pub signals: Signals,
    pub keep_fds: KeepFds,
    /// These become the child's descriptors with these numbers, of 3 or more, the smaller ones first; pm3's own copies end
    /// with the plan.
    pub handed: Vec<(OwnedFd, RawFd)>,
}

/// Where a child finds what it is handed: the first number after the streams (SD_LISTEN_FDS_START, sd_listen_fds(3)).
pub const FIRST: RawFd = 3;

/// The number behind so many that are handed out from there.
pub fn behind(count: usize) -> RawFd {
    FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX))
}

impl Plan {
    /// The first number behind all that are handed out.
    fn beyond(&self) -> RawFd {
        self.handed.iter().map(|(_, number)| number.saturating_add(1)).max().unwrap_or(FIRST)
    }

    /// A copy that is in nobody's way while what is handed out gets its numbers.
    fn copy_beyond(&self, fd: &OwnedFd) -> Result<OwnedFd, Failure> {
        fds::copy_from(fd, self.beyond()).map_err(|error| failure(Stage::Pipe, "", error as i32))
    }
}

/// Whose session and process group the child is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// A session of its own, without a terminal: supervised apps.
    #[default]
    New,
    /// A process group of its own. `foreground`: if pm3's group is the terminal's foreground one, this becomes it.
    Group { foreground: bool },
    /// Those of pm3.
    Same,
}

#[derive(Debug, Default)]
pub enum Stdin {
    /// Reads end of file.
    #[default]
    Null,
    Inherit,
    /// This one, which pm3's own copy of ends with the plan. It is made the child's own, as a [`Stream`] is, so that the
    /// child can open `/dev/stdin`.
    Given(OwnedFd),
}

/// Where a stream goes.
#[derive(Debug, Default)]
pub enum Stream {
    #[default]
    Inherit,
    Null,
    /// Into this one. It is made the child's own (fchown(2)), so that the child can open `/dev/stdout`.
    Given(OwnedFd),
    /// Appended to, made with mode 0640 if it is not there, opened with the child's ids; never through a symbolic link.
    File(CString),
    /// Standard error only: what standard output is.
    Stdout,
}

/// What the child's program finds about signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signals {
    /// Nothing blocked, nothing ignored.
    #[default]
    Default,
    /// What pm3 itself was executed with (`signals::inherited`).
    Inherit(Inherited),
}

/// Whether `bind` and `listen` of the child's whole tree are held for us (`sys::intercept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intercept {
    #[default]
    No,
    /// If that can be, also where it takes no_new_privs.
    Yes,
    /// Not where it takes no_new_privs.
    KeepingPrivileges,
}

/// What has become of a start.
#[derive(Debug)]
pub enum Progress {
    /// The child is intercepted, or cannot be, for this errno. What was asked for comes first, and once.
    Intercepted(Result<Calls, i32>),
    /// The program executes. A child that was killed on the way reads as executed; its end, which comes from `reap`,
    /// tells the rest.
    Executed,
    Failed(Failure),
}

/// What happens to descriptors from 3 up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepFds {
    #[default]
    None,
    /// Those without close-on-exec, which pm3's own all have: what pm3 was executed with.
    Inherited,
}

/// A child that has been forked and may not execute its program yet.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    /// Non-blocking; readable once [`outcome`] is ready.
    pub status: OwnedFd,
}

/// Forks and returns at once. All signals must be blocked, or one could run a handler in the copy, and a child that
/// ends fast could be missed.
///
/// # Errors
/// `Prepare`, `User`, `Group`, `Pipe` or `Fork`: there is no child then.
pub fn spawn(plan: &Plan) -> Result<Child, Failure> {
    let prepared = Prepared::new(plan)?;
    // Packets, so that what the child has to say keeps its limits; and a socket can carry a descriptor.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    let (status, mut report) = pair.map_err(|error| failure(Stage::Pipe, "", error as i32))?;
    if report.as_raw_fd() < plan.beyond() {
        report = plan.copy_beyond(&report)?;
    }
    let none: c_long = 0;
    // SAFETY: no new stack, no thread-local storage, no pids to write: the child is a copy as after fork(2). It calls
    // only `child::become_program`, which neither allocates nor takes a lock and does not return.
    let pid = unsafe { libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), none, none, none, none) };
    match Errno::result(pid).map(u32::try_from) {
        Ok(Ok(0)) => child::become_program(prepared, report.as_raw_fd()),
        Ok(Ok(pid)) => Ok(Child { pid, status }),
        Ok(Err(_)) => Err(failure(Stage::Fork, "", libc::EOVERFLOW)),
        Err(error) => Err(failure(Stage::Fork, "", error as i32)),
    }
}

/// What has become of a start since this was asked last. Pending: ask again when `status` is readable. After `Executed`
/// or `Failed` there is nothing to ask.
pub fn outcome(status: &OwnedFd) -> Poll<Progress> {
    let mut record = [0; record::MAX];
    let mut listener = Vec::new();
    loop {
        return Poll::Ready(match super::socket::receive(status, &mut record, &mut listener) {
            Ok(0) => Progress::Executed,
            Ok(len) => match record::decode(record.get(..len).unwrap_or_default()) {
                Said::Failed(failure) => Progress::Failed(failure),
                // Without the descriptor: ours are used up. Then the child is lost, as nobody answers its calls.
                Said::Intercepted => match listener.pop() {
                    Some(listener) => Progress::Intercepted(Ok(Calls::new(listener))),
                    None => Progress::Failed(failure(Stage::Intercept, "", libc::EMFILE)),
                },
                Said::NotIntercepted(errno) => Progress::Intercepted(Err(errno)),
            },
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => return Poll::Pending,
                errno => Progress::Failed(failure(Stage::Pipe, "", errno.unwrap_or(0))),
            },
        });
    }
}

/// Waits until the program executes. For `pm3 run`, which can do nothing before: a signal that it passed on earlier
/// would miss the process group, or hit a child that is not yet what it was meant for.
///
/// # Errors
/// As [`outcome`]'s. The child has to be reaped.
pub fn executed(status: OwnedFd) -> Result<(), Failure> {
    loop {
        match outcome(&status) {
            Poll::Ready(Progress::Executed) => return Ok(()),
            Poll::Ready(Progress::Failed(failure)) => return Err(failure),
            Poll::Ready(Progress::Intercepted(_)) => continue,
            Poll::Pending => {}
        }
        let mut polled = [PollFd::new(status.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failure(Stage::Pipe, "", error as i32)),
        }
    }
}

/// The paths that execvp(3) would try for `program`: itself if it holds a slash, else one for each directory of
/// `path`, the value of PATH.
///
/// # Errors
/// `Prepare`: a NUL in the name.
pub fn candidates(program: &[u8], path: Option<&[u8]>) -> Result<Vec<CString>, Failure> {
    /// What Docker sets, and what most distributions' login does.
    const USUAL: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if program.is_empty() || program.contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let directories = path.unwrap_or(USUAL).split(|byte| *byte == b':');
    directories.map(|dir| c_string([if dir.is_empty() { b"." } else { dir }, b"/", program].concat())).collect()
}

/// A text for the kernel.
///
/// # Errors
/// `Prepare`: a NUL, which would cut it off.
pub fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, Failure> {
    CString::new(text).map_err(|error| {
        let object = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\\0");
        explained(Stage::Prepare, &object, libc::EINVAL, "holds a NUL character")
    })
}

fn failure(stage: Stage, object: &str, errno: i32) -> Failure {
    explained(stage, object, errno, &errno::why(errno))
}

fn explained(stage: Stage, object: &str, errno: i32, why: &str) -> Failure {
    Failure { stage, object: object.into(), errno, why: why.into(), passing: errno::passing(errno) }
}

/// What the child needs in memory, made before the fork.
struct Prepared<'a> {
    plan: &'a Plan,
    /// Ends with a null pointer, as `env`.
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// Where in `env` the child's own `LISTEN_PID=…` belongs.
    listen_pid: Option<usize>,
    ids: ids::Ids,
    handed: Vec<OwnedFd>,
    /// Our pid, to see in the child whether we still live.
    parent: u32,
}

impl<'a> Prepared<'a> {
    fn new(plan: &'a Plan) -> Result<Prepared<'a>, Failure> {
        let parent = std::process::id();
        let ours = format!("LISTEN_PID={parent}");
        let has_sockets = plan.keep_fds == KeepFds::Inherited || !plan.handed.is_empty();
        let listen_pid = plan.env.iter().position(|entry| has_sockets && entry.as_bytes() == ours.as_bytes());
        let handed = plan.handed.iter().map(|(fd, _)| plan.copy_beyond(fd)).collect::<Result<Vec<_>, _>>()?;
        let ids = ids::resolve(plan.user.as_deref(), plan.group.as_deref())?;
        let output = [&plan.stdout, &plan.stderr].into_iter().filter_map(|stream| match stream {
            Stream::Given(fd) => Some(fd),
            Stream::Inherit | Stream::Null | Stream::File(_) | Stream::Stdout => None,
        });
        let input = match &plan.stdin {
            Stdin::Given(fd) => Some(fd),
            Stdin::Null | Stdin::Inherit => None,
        };
        if let Some(uid) = ids.uid {
            for fd in output.chain(input) {
                // Who may not give it away has the child's ids already, or the child only cannot open it anew.
                let _ = nix::unistd::fchown(fd, Some(uid.into()), None);
            }
        }
        Ok(Prepared { plan, argv: pointers(&plan.argv), env: pointers(&plan.env), listen_pid, ids, handed, parent })
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}
