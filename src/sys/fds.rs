//! File descriptors and their limit: init raises its own limit and gives its apps the inherited one back, closes what
//! it has no use for, and lets nothing of its own reach an app.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::memfd::MFdFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;

/// A resource limit as the kernel has it; `u64::MAX` is unlimited (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub soft: u64,
    pub hard: u64,
}

impl Range {
    pub(super) fn new(soft: Option<u64>, hard: Option<u64>) -> Range {
        Range { soft: soft.unwrap_or(u64::MAX), hard: hard.unwrap_or(u64::MAX) }
    }
}

/// Raises the soft limit of open files to the hard one and returns what it was, which the apps get back
/// (`spawn::Plan::nofile`). Programs that use select(2) or close every descriptor suffer from a high one.
pub fn raise_limit() -> io::Result<Range> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(Range { soft, hard })
}

/// Closes what pm3 was executed with beyond standard input, output and error: every descriptor from 3 up without
/// close-on-exec, which all of pm3's own have. `pm3 run` does so after its child got them.
pub fn close_inherited() {
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            // All of them before the first is closed: the directory is read through a descriptor too.
            let open: Vec<RawFd> =
                entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok()).collect();
            open.into_iter().for_each(close_if_inherited);
        }
        Err(_) => (3..=highest()).for_each(close_if_inherited),
    }
}

fn close_if_inherited(fd: RawFd) {
    // SAFETY: fcntl takes numbers; a number that is not open is an error and no more.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if fd >= 3 && flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
        // SAFETY: nothing of pm3 uses a descriptor without close-on-exec.
        unsafe { libc::close(fd) };
    }
}

/// Where a search for open descriptors ends that cannot read /proc: the limit may be a billion, what is open is low.
fn highest() -> RawFd {
    const HIGHEST: RawFd = 65_536;
    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .and_then(|(_, hard)| RawFd::try_from(hard).ok())
        .map_or(HIGHEST, |hard| hard.min(HIGHEST))
}

/// What the kernel says when the table of descriptors is full (EMFILE).
pub const TOO_MANY: i32 = Errno::EMFILE as i32;

/// How many descriptors we may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft)
}

/// A copy with the lowest free number that is not below `least`; close-on-exec.
pub(super) fn copy_from(fd: &OwnedFd, least: RawFd) -> nix::Result<OwnedFd> {
    let number = nix::fcntl::fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A pipe for somebody else's output: what we read from, which does not block, and what is written to, which does.
///
/// # Errors
/// From pipe2(2): there is no descriptor left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

/// Pages that a pipe has room for, unless its user has too many of them (pipe(7)).
pub const PIPE_PAGES: usize = 16;

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: sysconf takes a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4 << 10)
}

/// Gives a pipe room for so many pages, which the kernel rounds up to a power of two (F_SETPIPE_SZ, fcntl(2)).
///
/// # Errors
/// EPERM: that is more than the user may have without CAP_SYS_RESOURCE. EBUSY: it is less than there is in the pipe.
pub fn resize(pipe: impl AsFd, pages: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(page().saturating_mul(pages)).unwrap_or(libc::c_int::MAX);
    Ok(nix::fcntl::fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes)).map(drop)?)
}

/// For how many pages a pipe has room (F_GETPIPE_SZ, fcntl(2)).
pub fn pages(pipe: impl AsFd) -> usize {
    let bytes = nix::fcntl::fcntl(pipe, FcntlArg::F_GETPIPE_SZ).unwrap_or_default();
    usize::try_from(bytes).unwrap_or_default() / page()
}

/// A file that is in memory alone, and goes with the last who has it open; closed at an exec.
///
/// # Errors
/// From memfd_create(2).
pub fn in_memory(name: &CStr) -> io::Result<OwnedFd> {
    Ok(nix::sys::memfd::memfd_create(name, MFdFlags::MFD_CLOEXEC)?)
}

/// Pages that all pipes of a user may have together: what is beyond gets two for each pipe, and nothing that is asked for
/// (pipe(7)). None: as many as there are.
pub fn pipe_pages() -> Option<usize> {
    // What the kernel begins with.
    const USUAL: usize = 16_384;
    let text = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").unwrap_or_default();
    Some(text.trim().parse().unwrap_or(USUAL)).filter(|pages| *pages > 0)
}

/// A pipe for somebody else's input: what is read from, which blocks, and what we write to with [`put`], which does not.
///
/// # Errors
/// As of [`pipe`].
pub fn input() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

/// What came of [`put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Done,
    /// There is no room for it now.
    Full,
    /// Nobody reads it, nor will.
    Closed,
}

/// Puts bytes into a pipe that does not block: up to 4096 of them all at once, or none (`PIPE_BUF`, pipe(7)). More than
/// that may be cut off.
pub fn put(writer: &OwnedFd, bytes: &[u8]) -> Put {
    loop {
        return match nix::unistd::write(writer, bytes) {
            Ok(_) => Put::Done,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Put::Full,
            Err(_) => Put::Closed,
        };
    }
}

/// Whether nothing is in a pipe and nobody can write into it any more.
pub fn is_drained(reader: impl AsFd) -> bool {
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let found = nix::poll::poll(&mut polled, PollTimeout::ZERO);
    let [polled] = polled;
    found.is_ok()
        && polled.revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP) && !seen.contains(PollFlags::POLLIN))
}

/// Whether nobody can write into a pipe any more.
pub fn has_ended(reader: impl AsFd) -> bool {
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::empty())];
    let found = nix::poll::poll(&mut polled, PollTimeout::ZERO);
    let [polled] = polled;
    found.is_ok() && polled.revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP))
}

/// How many bytes are in a pipe that nobody has read yet (FIONREAD, pipe(7)).
pub fn unread(reader: impl AsFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and FIONREAD writes one int.
    let known = unsafe { libc::ioctl(reader.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) } == 0;
    usize::try_from(count).ok().filter(|_| known).unwrap_or_default()
}

/// Shows what is in a pipe without taking it out: by another pipe that gets the same (tee(2)).
#[derive(Debug)]
pub struct Glass {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Glass {
    /// # Errors
    /// As of [`pipe`], which it takes two of the descriptors of.
    pub fn new() -> io::Result<Glass> {
        Glass::before(PIPE_PAGES)
    }

    /// One for pipes of so many pages.
    ///
    /// # Errors
    /// As of [`new`](Glass::new).
    pub fn before(pages: usize) -> io::Result<Glass> {
        let (reader, writer) = pipe()?;
        // Half as large as those: so a pipe that is full is never seen as a whole, in whatever pieces it was filled.
        resize(&writer, (pages / 2).max(1))?;
        Ok(Glass { reader, writer })
    }

    /// Copies the first bytes in `pipe`, not always as many as there are, but never all of one that is full. 0: nothing is there, and nobody can write.
    ///
    /// # Errors
    /// EAGAIN where nothing is there now. Others from tee(2): it is no pipe, or there is no memory.
    pub fn look(&self, pipe: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
        let (from, to) = (pipe.as_fd().as_raw_fd(), self.writer.as_raw_fd());
        // SAFETY: tee takes numbers.
        let copied = unsafe { libc::tee(from, to, bytes.len(), libc::SPLICE_F_NONBLOCK) };
        let count = usize::try_from(Errno::result(copied)?).unwrap_or_default();
        let mut rest = bytes.get_mut(..count).unwrap_or_default();
        while !rest.is_empty() {
            let read = nix::unistd::read(&self.reader, rest)?;
            rest = rest.get_mut(read..).unwrap_or_default();
        }
        Ok(count)
    }
}

/// Moves up to so many bytes from one pipe into another, without copying them and without waiting (splice(2)). A process
/// that is killed meanwhile has moved what is moved, and nothing else. 0: nothing is there, and nobody can write.
///
/// # Errors
/// EAGAIN where nothing is there, or there is no room for it. EINVAL: one of them is no pipe. EPIPE: nobody reads the other.
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let (from, to, none) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: splice takes numbers; it uses no offsets of ours.
    let moved = unsafe { libc::splice(from, none, to, none, most, libc::SPLICE_F_NONBLOCK) };
    Ok(Errno::result(moved).map(|count| usize::try_from(count).unwrap_or_default())?)
}

/// Sets or clears close-on-exec.
pub fn set_cloexec(fd: BorrowedFd, on: bool) -> io::Result<()> {
    let flags = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    Ok(nix::fcntl::fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop)?)
}

/// Closes every descriptor from this one up but these, those of pm3 included: for a child, and for `pm3 run`, which needs
/// no other. The smaller ones come first. Allocates nothing.
pub fn close_from_but(mut first: u32, kept: &mut dyn Iterator<Item = RawFd>) {
    for next in kept.map(RawFd::unsigned_abs).chain([u32::MAX]) {
        let last = if next == u32::MAX { next } else { next.saturating_sub(1) };
        if first <= last && close_range(first, last).is_err() {
            close_one_by_one(first, last);
        }
        first = first.max(next.saturating_add(1));
    }
}

fn close_range(first: u32, last: u32) -> nix::Result<()> {
    // SAFETY: close_range takes numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Before Linux 5.9, or where a filter refuses close_range. Reading a directory needs memory, so it looks at all.
fn close_one_by_one(first: u32, last: u32) {
    for fd in first..=last.min(highest().unsigned_abs()) {
        // SAFETY: close takes a number; nothing of this process uses these any more.
        unsafe { libc::syscall(libc::SYS_close, fd) };
    }
}

/// A descriptor that reads end of file: /dev/null, or without one the end of a pipe that nobody writes to.
pub(super) fn nothing_to_read() -> nix::Result<OwnedFd> {
    const NULL: &CStr = c"/dev/null";
    nix::fcntl::open(NULL, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .or_else(|_| nix::unistd::pipe2(OFlag::O_CLOEXEC).map(|(reader, _)| reader))
}
