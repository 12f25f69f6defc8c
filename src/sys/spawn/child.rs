//! The child between fork and exec, step by step. It is a copy of init with init's memory: it may not allocate, lock,
//! log or return. What it needs was prepared by the parent; what goes wrong it reports and exits.
//!
//! All signals stay blocked until just before the exec, as init had them. So a signal that comes early finds the
//! dispositions of the new program, never init's, and is delivered and not lost.

use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_ulong};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag};
use nix::sys::resource::{Resource as Rlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::ids::{Groups, Ids};
use super::record::{self, Trouble};
use super::{Intercept, KeepFds, Plan, Prepared, Session, Signals, Stdin, Stream, diagnose};
use crate::supervisor::event::{Limit, Resource, Sig, Stage};
use crate::sys::fds::{self, Range};
use crate::sys::signals::Inherited;
use crate::sys::{intercept, signals, tty};

type Step<'a> = Result<(), Trouble<'a>>;

/// Room for `LISTEN_PID=` and ten digits, a NUL behind them.
const LISTEN_PID_MAX: usize = 24;

/// Executes the program, or reports to `status` and exits as a shell would: 127 for a program that is not there, 126.
pub(super) fn become_program(prepared: Prepared, status: RawFd) -> ! {
    let Prepared { plan, argv, mut env, listen_pid, ids, handed, parent } = prepared;
    let mut own_pid = [0; LISTEN_PID_MAX];
    if let Some(entry) = listen_pid.and_then(|at| env.get_mut(at)) {
        // The last byte stays 0 and ends the string.
        let _ = write!(own_pid.split_last_mut().map_or(&mut [][..], |(_, room)| room), "LISTEN_PID={}", Pid::this());
        *entry = own_pid.as_ptr().cast();
    }
    let trouble = match set_up(plan, &ids, &handed, parent, status) {
        Err(trouble) => trouble,
        Ok(()) => match execute(plan, &argv, &env) {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        },
    };
    let code = if trouble.stage == Stage::Exec && trouble.errno == libc::ENOENT { 127 } else { 126 };
    report(plan, &trouble, status);
    // SAFETY: ends this copy at once; no destructor or handler of init runs in it.
    unsafe { libc::_exit(code) }
}

fn set_up<'a>(plan: &'a Plan, ids: &'a Ids, handed: &[OwnedFd], parent: u32, status: RawFd) -> Step<'a> {
    dispositions(&plan.signals);
    session(plan.session)?;
    given(plan, handed)?;
    if plan.keep_fds == KeepFds::None {
        // Before the ids change: afterwards /proc/self/fd is not ours to read.
        let numbers = plan.handed.iter().map(|(_, number)| *number);
        fds::close_from_but(3, &mut numbers.chain([status]));
    }
    limits(&plan.limits)?;
    nice(plan.nice)?;
    oom_score_adj(plan.oom_score_adj)?;
    intercept(plan, status)?;
    take_ids(plan, ids)?;
    streams(plan)?;
    if let Some(mask) = plan.umask {
        nix::sys::stat::umask(Mode::from_bits_truncate(mask.into()));
    }
    if plan.no_new_privs {
        done_at(Stage::NoNewPrivs, b"", no_new_privs())?;
    }
    if let Some(cwd) = &plan.cwd {
        done_at(Stage::Chdir, cwd.to_bytes(), nix::unistd::chdir(cwd.as_c_str()))?;
    }
    if let Some(sig) = plan.pdeathsig {
        follow_parent(sig, parent)?;
    }
    nofile(plan)?;
    signals::set_mask(match plan.signals {
        Signals::Default => 0,
        Signals::Inherit(inherited) => inherited.mask,
    });
    Ok(())
}

/// Gives up for good what setuid programs and files with capabilities would give (PR_SET_NO_NEW_PRIVS, prctl(2)).
pub(in crate::sys) fn no_new_privs() -> nix::Result<()> {
    let (yes, none): (c_ulong, c_ulong) = (1, 0);
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none) }).map(drop)
}

fn done_at<'a, T>(stage: Stage, object: &'a [u8], done: nix::Result<T>) -> Result<T, Trouble<'a>> {
    done.map_err(|errno| Trouble { stage, errno: errno as i32, object })
}

/// What pm3 was given as ignored, and SIGPIPE, since Rust's runtime ignores that where it runs, as in tests. No others:
/// pm3 ignores none itself, and exec takes handlers away.
fn dispositions(wanted: &Signals) {
    let wanted = match wanted {
        Signals::Default => Inherited::default(),
        Signals::Inherit(wanted) => *wanted,
    };
    let given = signals::inherited();
    let differs = |sig: &Sig| *sig == Sig::PIPE || given.ignores(*sig) || wanted.ignores(*sig);
    for sig in (1..=64).map(Sig).filter(differs) {
        signals::dispose(sig, wanted.ignores(sig));
    }
}

fn session(session: Session) -> Step<'static> {
    match session {
        Session::Same => Ok(()),
        Session::New => done_at(Stage::Session, b"", nix::unistd::setsid()).map(drop),
        Session::Group { foreground } => {
            let ours = nix::unistd::getpgrp();
            done_at(Stage::Session, b"", nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)))?;
            if foreground {
                tty::pass_foreground(ours.as_raw().unsigned_abs(), Pid::this().as_raw().unsigned_abs());
            }
            Ok(())
        }
    }
}

/// All limits but the soft one of open files, which could stop the steps that follow.
fn limits(limits: &[Limit]) -> Step<'static> {
    for Limit { resource, soft, hard } in limits {
        let soft = if *resource == Resource::Nofile { hard } else { soft };
        limit(*resource, Range::new(*soft, *hard))?;
    }
    Ok(())
}

fn limit(resource: Resource, range: Range) -> Step<'static> {
    let (number, name) = kernel(resource);
    done_at(Stage::Limits, name, setrlimit(number, range.soft, range.hard))
}

/// The plan's own limit of open files, else what pm3 was given itself.
fn nofile(plan: &Plan) -> Step<'static> {
    let own = plan.limits.iter().rfind(|limit| limit.resource == Resource::Nofile);
    match own.map(|limit| Range::new(limit.soft, limit.hard)).or(plan.nofile) {
        Some(range) => limit(Resource::Nofile, range),
        None => Ok(()),
    }
}

/// A resource's number for the kernel and its name for messages (getrlimit(2)).
fn kernel(resource: Resource) -> (Rlimit, &'static [u8]) {
    match resource {
        Resource::Cpu => (Rlimit::RLIMIT_CPU, b"cpu"),
        Resource::Fsize => (Rlimit::RLIMIT_FSIZE, b"fsize"),
        Resource::Data => (Rlimit::RLIMIT_DATA, b"data"),
        Resource::Stack => (Rlimit::RLIMIT_STACK, b"stack"),
        Resource::Core => (Rlimit::RLIMIT_CORE, b"core"),
        Resource::Rss => (Rlimit::RLIMIT_RSS, b"rss"),
        Resource::Nproc => (Rlimit::RLIMIT_NPROC, b"nproc"),
        Resource::Nofile => (Rlimit::RLIMIT_NOFILE, b"nofile"),
        Resource::Memlock => (Rlimit::RLIMIT_MEMLOCK, b"memlock"),
        Resource::As => (Rlimit::RLIMIT_AS, b"as"),
        Resource::Locks => (Rlimit::RLIMIT_LOCKS, b"locks"),
        Resource::Sigpending => (Rlimit::RLIMIT_SIGPENDING, b"sigpending"),
        Resource::Msgqueue => (Rlimit::RLIMIT_MSGQUEUE, b"msgqueue"),
        Resource::Nice => (Rlimit::RLIMIT_NICE, b"nice"),
        Resource::Rtprio => (Rlimit::RLIMIT_RTPRIO, b"rtprio"),
        Resource::Rttime => (Rlimit::RLIMIT_RTTIME, b"rttime"),
    }
}

fn nice(value: Option<i8>) -> Step<'static> {
    let Some(value) = value else { return Ok(()) };
    // SAFETY: setpriority takes numbers; the process 0 is this one.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value.into()) };
    done_at(Stage::Nice, b"", Errno::result(done)).map(drop)
}

fn oom_score_adj(value: Option<i16>) -> Step<'static> {
    const FILE: &CStr = c"/proc/self/oom_score_adj";
    let Some(value) = value else { return Ok(()) };
    let mut digits = [0u8; 8];
    let mut room = &mut digits[..];
    let _ = write!(room, "{value}");
    let left = room.len();
    let text = digits.get(..digits.len() - left).unwrap_or_default();
    let opened = nix::fcntl::open(FILE, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    let written = opened.and_then(|file| nix::unistd::write(file, text));
    done_at(Stage::OomScore, FILE.to_bytes(), written).map(drop)
}

/// Groups, then the group, then the user: each step needs the right that the last one gives up. The calls are raw:
/// libc's own would ask threads to follow, which this copy does not have.
fn take_ids<'a>(plan: &'a Plan, ids: &'a Ids) -> Step<'a> {
    let named = plan.user.as_deref().or(plan.group.as_deref()).unwrap_or_default().as_bytes();
    let unchanged = ids.uid.is_none_or(|uid| uid == nix::unistd::geteuid().as_raw())
        && ids.gid.is_none_or(|gid| gid == nix::unistd::getegid().as_raw());
    let (groups, may_keep) = match &ids.groups {
        Groups::Keep => (None, true),
        Groups::Clear => (Some(&[][..]), true),
        Groups::Set(groups) => (Some(groups.as_slice()), unchanged),
    };
    if let Some(groups) = groups {
        // SAFETY: the pointer and the length are those of a slice of gid_t.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        match Errno::result(done) {
            Err(Errno::EPERM) if may_keep => {}
            done => done_at(Stage::Ids, named, done).map(drop)?,
        }
    }
    if let Some(gid) = ids.gid {
        // SAFETY: setresgid takes numbers.
        let done = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
        done_at(Stage::Ids, named, Errno::result(done))?;
    }
    if let Some(uid) = ids.uid {
        // SAFETY: setresuid takes numbers.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        done_at(Stage::Ids, named, Errno::result(done))?;
    }
    Ok(())
}

/// Descriptors of pm3's own get their places before all others are closed.
fn given<'a>(plan: &'a Plan, handed: &[OwnedFd]) -> Step<'a> {
    if let Stdin::Given(fd) = &plan.stdin {
        done_at(Stage::Stdin, b"", place(fd, 0))?;
    }
    for (stage, stream, target) in [(Stage::Stdout, &plan.stdout, 1), (Stage::Stderr, &plan.stderr, 2)] {
        if let Stream::Given(fd) = stream {
            done_at(stage, b"", place(fd, target))?;
        }
    }
    // The copies are beyond all numbers, so none is in another's way.
    for (fd, (_, number)) in handed.iter().zip(&plan.handed) {
        done_at(Stage::Pipe, b"", place(fd, *number))?;
    }
    Ok(())
}

/// Has our calls held, as the ids that pm3 has: who drops them may not do that any more without no_new_privs. Where it
/// cannot be, the program runs without it, if it may, and pm3 is told.
fn intercept(plan: &Plan, status: RawFd) -> Step<'static> {
    let installed = match plan.intercept {
        Intercept::No => return Ok(()),
        Intercept::Yes => intercept::install(true),
        Intercept::KeepingPrivileges => intercept::install(false),
    };
    let (fd, refused) = match &installed {
        Ok(listener) => (Some(listener.as_raw_fd()), None),
        Err(errno) if plan.must_intercept => return done_at(Stage::Intercept, b"seccomp", Err::<(), _>(*errno)),
        Err(errno) => (None, Some(*errno as i32)),
    };
    done_at(Stage::Intercept, b"", say(status, &record::intercepted(refused), fd))
}

/// Room for the one descriptor that goes along, as `cmsghdr` wants to be aligned.
#[repr(C, align(8))]
struct Rights([u8; 32]);

/// Sends a packet, and a descriptor with it (unix(7)).
fn say(status: RawFd, packet: &[u8], fd: Option<RawFd>) -> nix::Result<()> {
    let mut rights = Rights([0; 32]);
    let mut piece = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: zeros are a value of each field, some of which only some C libraries have.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
    if let Some(fd) = fd {
        let length = size_of::<RawFd>() as u32;
        // SAFETY: computes a number.
        let (space, whole) = (unsafe { libc::CMSG_SPACE(length) }, unsafe { libc::CMSG_LEN(length) });
        (message.msg_control, message.msg_controllen) = (rights.0.as_mut_ptr().cast(), space as _);
        // SAFETY: `message` has a control buffer with room for one header and one descriptor.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: as above.
        let mut head: libc::cmsghdr = unsafe { std::mem::zeroed() };
        (head.cmsg_len, head.cmsg_level, head.cmsg_type) = (whole as _, libc::SOL_SOCKET, libc::SCM_RIGHTS);
        // SAFETY: `header` is the start of that buffer, and aligned.
        unsafe { header.write(head) };
        // SAFETY: behind the header is room for one descriptor.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: as said; the place may not be aligned for a number.
        unsafe { data.cast::<RawFd>().write_unaligned(fd) };
    }
    // SAFETY: all that `message` names lives until here.
    let sent = unsafe { libc::sendmsg(status, &raw const message, libc::MSG_NOSIGNAL) };
    Errno::result(sent).map(drop)
}

fn streams(plan: &Plan) -> Step<'_> {
    match plan.stdin {
        Stdin::Inherit | Stdin::Given(_) => {}
        Stdin::Null => {
            let nothing = fds::nothing_to_read();
            done_at(Stage::Stdin, b"/dev/null", nothing.and_then(|fd| place(&fd, 0)))?;
        }
    }
    stream(Stage::Stdout, &plan.stdout, 1)?;
    stream(Stage::Stderr, &plan.stderr, 2)
}

fn stream(stage: Stage, stream: &Stream, target: RawFd) -> Step<'_> {
    let append = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_APPEND;
    match stream {
        Stream::Inherit | Stream::Given(_) => Ok(()),
        Stream::Stdout => {
            // SAFETY: dup2 takes numbers; 1 is open.
            let done = unsafe { libc::dup2(1, target) };
            done_at(stage, b"", Errno::result(done)).map(drop)
        }
        Stream::Null => {
            let opened = nix::fcntl::open(c"/dev/null", append, Mode::empty());
            done_at(stage, b"/dev/null", opened.and_then(|fd| place(&fd, target)))
        }
        Stream::File(path) => {
            // Non-blocking, so that a FIFO without a reader is an error and no endless start.
            let create = append | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let opened = nix::fcntl::open(path.as_c_str(), create, Mode::from_bits_truncate(0o640));
            let blocking = |fd: OwnedFd| nix::fcntl::fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_APPEND)).map(|_| fd);
            done_at(stage, path.to_bytes(), opened.and_then(blocking).and_then(|fd| place(&fd, target)))
        }
    }
}

/// Makes `target` a copy without close-on-exec. `fd` is never below 3: those numbers are taken from the start (`early`).
fn place(fd: &OwnedFd, target: RawFd) -> nix::Result<()> {
    // SAFETY: dup2 takes numbers; what `target` was is init's copy and not needed any more.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    Errno::result(done).map(drop)
}

/// Asks for a signal when the parent dies. It may be dead already, and then nobody would send one.
fn follow_parent(sig: Sig, parent: u32) -> Step<'static> {
    let none: c_ulong = 0;
    // SAFETY: PR_SET_PDEATHSIG takes numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, c_ulong::from(sig.0), none, none, none) };
    done_at(Stage::Session, b"pdeathsig", Errno::result(done))?;
    if nix::unistd::getppid().as_raw().unsigned_abs() != parent {
        return Err(Trouble { stage: Stage::Session, errno: libc::ESRCH, object: b"pdeathsig" });
    }
    Ok(())
}

/// execvp(3) without its fall-back to a shell: a candidate that is not there is passed over, one that may not be
/// executed is remembered.
fn execute<'a>(plan: &'a Plan, argv: &[*const c_char], env: &[*const c_char]) -> Result<Infallible, Trouble<'a>> {
    let mut refused = None;
    for candidate in &plan.candidates {
        // SAFETY: a path, and two arrays of C strings that end with a null pointer; all live until the exec.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let trouble = Trouble { stage: Stage::Exec, errno: Errno::last_raw(), object: candidate.to_bytes() };
        match trouble.errno {
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
            libc::EACCES => refused = refused.or(Some(trouble)),
            _ => return Err(trouble),
        }
    }
    let absent = plan.candidates.first().map_or(&b""[..], |path| path.to_bytes());
    Err(refused.unwrap_or(Trouble { stage: Stage::Exec, errno: libc::ENOENT, object: absent }))
}

fn report(plan: &Plan, trouble: &Trouble, status: c_int) {
    let mut head = [0; diagnose::HEAD_MAX];
    let diagnosis = diagnose::look(&plan.candidates, trouble, &mut head);
    let trouble = Trouble { object: diagnosis.object, ..*trouble };
    let mut record = [0; record::MAX];
    let len = record::encode(&trouble, diagnosis.finding, diagnosis.detail, &mut record);
    // The socket is empty, or has one small packet in it, and takes this at once.
    let _ = say(status, record.get(..len).unwrap_or_default(), None);
}
