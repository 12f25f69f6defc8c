//! Init's own lines on standard error, for env_logger's `Target::Pipe`. Whoever reads them may be slow, stuck or gone,
//! and init may wait for nobody: a line that is not taken at once is lost, and counted, and the count is told when
//! lines are taken again. A closed pipe is no error.
//!
//! The descriptor is shared with the apps, so it may not be made non-blocking. A pipe or terminal is opened once more
//! through /proc, which gives a description of our own; a socket takes a flag with every call; a file never blocks,
//! and must not be opened again, or lines of the apps would be written over ours. What is left is asked by poll(2).

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::{Mode, SFlag};

/// A pipe that poll(2) calls writable takes this much without blocking (PIPE_BUF, pipe(7)).
const ATOMIC: usize = libc::PIPE_BUF;

/// A line longer than this is cut: it is a mistake, and its rest may have to be kept.
const LINE_MAX: usize = 16 << 10;

/// Writes lines to a descriptor and never blocks or fails.
#[derive(Debug)]
pub struct Say {
    way: Way,
    /// The end of a line whose beginning was taken; it goes out first.
    rest: Vec<u8>,
    lost: u64,
}

#[derive(Debug)]
enum Way {
    /// A description of our own, non-blocking.
    Own(OwnedFd),
    Socket(BorrowedFd<'static>),
    File(BorrowedFd<'static>),
    Polled(BorrowedFd<'static>),
}

/// Lines to standard error.
pub fn stderr() -> Say {
    // SAFETY: 2 is open from the start on (`early`) and is never closed.
    let fd = unsafe { BorrowedFd::borrow_raw(2) };
    Say { way: Way::find(fd, c"/proc/self/fd/2"), rest: Vec::new(), lost: 0 }
}

/// Leaves a text in a file in place of what was there. Through no symbolic link, which an app may have put there; and
/// not waiting for anybody to read it, should it be a FIFO.
///
/// # Errors
/// From open(2) and write(2); ELOOP for a link, ENXIO for a FIFO.
pub fn leave(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)?.write_all(text.as_bytes())
}

impl Way {
    fn find(fd: BorrowedFd<'static>, path: &CStr) -> Way {
        let kind = nix::sys::stat::fstat(fd).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        match kind {
            Ok(SFlag::S_IFREG | SFlag::S_IFBLK) => return Way::File(fd),
            Ok(SFlag::S_IFSOCK) => return Way::Socket(fd),
            _ => {}
        }
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_APPEND | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).map_or(Way::Polled(fd), Way::Own)
    }

    /// Writes what is taken at once.
    fn offer(&self, bytes: &[u8]) -> nix::Result<usize> {
        match self {
            Way::Own(fd) => nix::unistd::write(fd, bytes),
            Way::File(fd) => nix::unistd::write(fd, bytes),
            Way::Socket(fd) => {
                nix::sys::socket::send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            }
            Way::Polled(fd) => {
                let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
                match nix::poll::poll(&mut polled, PollTimeout::ZERO)? {
                    0 => Err(Errno::EAGAIN),
                    _ => nix::unistd::write(fd, bytes.get(..ATOMIC).unwrap_or(bytes)),
                }
            }
        }
    }

    /// Writes as much as is taken, and says how much that was.
    fn give(&self, bytes: &[u8]) -> usize {
        let mut given = 0;
        while let Some(rest) = bytes.get(given..).filter(|rest| !rest.is_empty()) {
            match self.offer(rest) {
                Ok(0) => break,
                Ok(taken) => given += taken,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        given
    }
}

impl Say {
    /// Offers a line, and keeps the end of one that was taken in part. False: nothing of it was taken.
    fn offer(&mut self, line: &[u8]) -> bool {
        let given = self.way.give(line);
        if given > 0 {
            self.rest.extend_from_slice(line.get(given..).unwrap_or_default());
        }
        given > 0
    }

    /// Offers the end of the last line. True: nothing of it is left.
    fn finish(&mut self) -> bool {
        let given = self.way.give(&self.rest);
        self.rest.drain(..given);
        self.rest.is_empty()
    }
}

impl Write for Say {
    /// Takes one line, always whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let cut = line.get(..LINE_MAX).filter(|cut| cut.len() < line.len());
        let taken = self.finish()
            && match (self.lost, cut) {
                (0, None) => self.offer(line),
                (lost, cut) => {
                    // In one write, so that the count is told once, and when a line has room again.
                    let lines = if lost == 1 { "line was" } else { "lines were" };
                    let told = format!("pm3: {lost} {lines} lost, stderr did not take them\n");
                    let told = if lost == 0 { "" } else { &told };
                    let end: &[u8] = if cut.is_some() { b"\n" } else { b"" };
                    self.offer(&[told.as_bytes(), cut.unwrap_or(line), end].concat())
                }
            };
        self.lost = if taken { 0 } else { self.lost.saturating_add(1) };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.finish();
        Ok(())
    }
}
