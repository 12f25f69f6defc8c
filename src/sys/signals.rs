//! Signals of init: all of them blocked for life and read from a descriptor. So none is lost across a re-exec,
//! queued realtime signals stay apart, and each says who sent it (signalfd(2)).
//!
//! Sets are plain bit masks and the calls are raw, because libc hides 32 and 33 from `sigfillset`, `sigprocmask` and
//! `sigaction` for its own threads. Init has none, and an outsider may send those two like any other.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::early;
use crate::supervisor::event::Sig;

/// Bytes of the kernel's signal set.
const SET_SIZE: usize = size_of::<u64>();

/// Stops a drain, so that someone who sends faster than init reads cannot hold it.
const DRAIN_MAX: usize = 4096;

/// The bit of a signal in the kernel's sets.
fn bit(sig: Sig) -> u64 {
    1u64.checked_shl(u32::from(sig.0).wrapping_sub(1)).unwrap_or(0)
}

/// The bits of these signals, as in [`Inherited`].
pub fn set_of(signals: &[Sig]) -> u64 {
    signals.iter().fold(0, |set, sig| set | bit(*sig))
}

/// How a program was started as to signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Signal n is blocked: bit n-1 is set.
    pub mask: u64,
    /// Signal n is ignored: bit n-1 is set.
    pub ignored: u64,
}

impl Inherited {
    pub fn blocks(&self, sig: Sig) -> bool {
        self.mask & bit(sig) != 0
    }

    pub fn ignores(&self, sig: Sig) -> bool {
        self.ignored & bit(sig) != 0
    }
}

/// What was blocked and ignored when pm3 was executed, before Rust's runtime or pm3 changed anything.
pub fn inherited() -> Inherited {
    early::inherited()
}

/// What is blocked and ignored now.
pub(super) fn current() -> Inherited {
    let mut mask = 0u64;
    // SAFETY: `mask` is a kernel signal set of SET_SIZE bytes; no new set is given.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, ptr::null::<u64>(), &raw mut mask, SET_SIZE) };
    let ignored = (1..=64).map(Sig).filter(|sig| disposition(*sig) == libc::SIG_IGN);
    Inherited { mask, ignored: ignored.fold(0, |set, sig| set | bit(sig)) }
}

/// The kernel's `struct sigaction`, whose first word is the handler on every architecture pm3 is built for; the
/// rest may be zero for SIG_DFL and SIG_IGN.
type Action = [usize; 4];

fn disposition(sig: Sig) -> usize {
    let mut action: Action = [0; 4];
    let none = ptr::null::<Action>();
    // SAFETY: `action` has room for the kernel's struct; no new action is given.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, c_int::from(sig.0), none, &raw mut action, SET_SIZE) };
    let [handler, ..] = action;
    handler
}

/// Sets a signal to its default action or ignores it. KILL and STOP refuse, which is as good.
pub(super) fn dispose(sig: Sig, ignore: bool) {
    let action: Action = [if ignore { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
    let none = ptr::null_mut::<Action>();
    // SAFETY: `action` is a kernel struct without a handler function; the old one is not asked for.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, c_int::from(sig.0), &raw const action, none, SET_SIZE) };
}

/// Sets what is blocked. Cannot fail with valid arguments.
pub(super) fn set_mask(mask: u64) {
    let none = ptr::null_mut::<u64>();
    // SAFETY: `mask` is a kernel signal set of SET_SIZE bytes; the old one is not asked for.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, SET_SIZE) };
}

/// Blocks every signal, and gives SIGCHLD its default action: inherited as ignored, children would vanish unreaped.
/// To be done first of all, before any child: what comes from here on is kept for [`SignalFd`].
pub fn block_all() {
    set_mask(u64::MAX);
    dispose(Sig::CHLD, false);
}

/// Takes [`block_all`] back: what was blocked when pm3 was executed is blocked again, and nothing else.
pub fn unblock() {
    set_mask(inherited().mask);
}

/// For verbs, which write to sockets and pipes that others may close: that is an error then, and no sudden death.
pub fn ignore_broken_pipes() {
    dispose(Sig::PIPE, true);
}

/// For a verb that waits for what goes on without it: if SIGINT ends it now, it says this first, on stderr. Not where the
/// signal is ignored (nohup(1)).
pub fn say_when_interrupted(text: &'static str) {
    if disposition(Sig::INT) == libc::SIG_IGN {
        return;
    }
    // Both are set before the handler that reads them.
    LAST_WORDS.store(text.as_ptr().cast_mut(), Ordering::Relaxed);
    LAST_WORDS_LENGTH.store(text.len(), Ordering::Relaxed);
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(interrupted), flags, SigSet::empty());
    // SAFETY: the handler calls nothing but what a handler may call (signal-safety(7)).
    let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGINT, &action) };
}

/// Takes [`say_when_interrupted`] back.
pub fn say_nothing_when_interrupted() {
    if disposition(Sig::INT) != libc::SIG_IGN {
        dispose(Sig::INT, false);
    }
}

/// A text that lives for ever.
static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static LAST_WORDS_LENGTH: AtomicUsize = AtomicUsize::new(0);

extern "C" fn interrupted(sig: c_int) {
    let (text, length) = (LAST_WORDS.load(Ordering::Relaxed), LAST_WORDS_LENGTH.load(Ordering::Relaxed));
    // SAFETY: both are of one static text, which was there before this handler.
    unsafe { libc::write(libc::STDERR_FILENO, text.cast(), length) };
    // SAFETY: takes a number. The action is the default one by now: this ends the process as the signal would have.
    unsafe { libc::raise(sig) };
}

/// A signal that pm3 got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub sig: Sig,
    /// `si_code` (sigaction(2)).
    pub code: i32,
    /// The sender; 0 where it lives in another pid namespace, or is the kernel.
    pub pid: u32,
    pub uid: u32,
    /// Raised by the kernel itself: a terminal's ^C or hang-up, a child's end; not by a `kill`.
    pub by_kernel: bool,
}

impl Received {
    fn is_own_writing(&self) -> bool {
        matches!(self.sig, Sig::PIPE | Sig::XFSZ) && self.pid == std::process::id()
    }
}

/// Waits for the next blocked signal, as long as `timeout` says or for ever, and takes it from the queue: lower numbers
/// first, realtime signals as often as they were sent. None: the time is over, or it was nothing that pm3
/// should know of.
/// For `pm3 run`, which waits for nothing else; it needs no descriptor (rt_sigtimedwait(2)).
pub fn next(timeout: Option<Duration>) -> Option<Received> {
    let all = u64::MAX;
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).into(),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `all` is a kernel signal set of SET_SIZE bytes, `time` is null or a timespec that lives, `info` has room.
    let number = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, info.as_mut_ptr(), time, SET_SIZE) };
    let sig = Sig(u8::try_from(number).ok()?);
    // SAFETY: all zero is a valid siginfo_t, and the kernel wrote over it.
    let info = unsafe { info.assume_init() };
    // SAFETY: where the signal has no sender, the bytes mean something else and are numbers nevertheless.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let uid = unsafe { info.si_uid() };
    let code = info.si_code;
    let received = Received { sig, code, pid: pid.cast_unsigned(), uid, by_kernel: code > 0 };
    (!received.is_own_writing()).then_some(received)
}

/// Whether a blocked signal waits to be taken.
pub(super) fn is_pending(sig: Sig) -> bool {
    let mut pending = 0u64;
    // SAFETY: `pending` is a kernel signal set of SET_SIZE bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SET_SIZE) };
    pending & bit(sig) != 0
}

/// Lets one pending signal have its effect, and blocks all again.
pub(super) fn let_through(sig: Sig) {
    set_mask(!bit(sig));
    set_mask(u64::MAX);
}

/// A descriptor that delivers blocked signals. Non-blocking and close-on-exec; readable while any is pending.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SignalFd {
    /// Delivers all signals; they must be blocked (`block_all`).
    pub fn new() -> io::Result<SignalFd> {
        let all = u64::MAX;
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: `all` is a kernel signal set of SET_SIZE bytes.
        let fd: c_long = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, SET_SIZE, flags) };
        let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
        // SAFETY: the call returned a new descriptor, which nobody else owns.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Appends what is pending. True: there may be more, and mio's edge-triggered event will not come again for it,
    /// so call once more after acting on these. What our own writing raises (a pipe that nobody reads any more, a file
    /// that is too large) is left out: blocked, it is kept even where it is ignored.
    pub fn read_all(&self, into: &mut Vec<Received>) -> io::Result<bool> {
        let most = into.len().saturating_add(DRAIN_MAX);
        while into.len() < most {
            let mut batch = Batch::EMPTY;
            let got = match nix::unistd::read(self.as_fd(), batch.bytes()) {
                Ok(got) => got,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            into.extend(batch.received(got).filter(|received| !received.is_own_writing()));
        }
        Ok(true)
    }
}

/// Bytes of a `struct signalfd_siginfo`, the same on every architecture.
const INFO: usize = size_of::<libc::signalfd_siginfo>();

/// Room for the records of one read.
struct Batch([u8; INFO * 16]);

impl Batch {
    const EMPTY: Batch = Batch([0; INFO * 16]);

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn received(&self, len: usize) -> impl Iterator<Item = Received> + '_ {
        self.0.get(..len).unwrap_or_default().chunks_exact(INFO).filter_map(decode)
    }
}

/// Reads the fields at their places in `struct signalfd_siginfo` (signalfd(2)).
fn decode(info: &[u8]) -> Option<Received> {
    let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let code = word(8)?.cast_signed();
    Some(Received { sig: Sig(u8::try_from(word(0)?).ok()?), code, pid: word(12)?, uid: word(16)?, by_kernel: code > 0 })
}
