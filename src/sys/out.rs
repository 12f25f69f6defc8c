//! Standard output and standard error, written to without ever waiting. They are shared with the apps and with whoever
//! started pm3, so they may not be made non-blocking. A pipe or terminal is opened once more through /proc, which gives a
//! description of our own; a socket takes a flag with every call; a file never blocks, and must not be opened again, or
//! lines of the apps would be written over ours. What is left is asked by poll(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::{Mode, SFlag};

use super::fds;

/// A pipe that poll(2) calls writable takes this much without blocking (PIPE_BUF, pipe(7)).
const ATOMIC: usize = libc::PIPE_BUF;

/// One of the two, and the way to write to it.
#[derive(Debug)]
pub struct Out {
    way: Way,
    is_pipe: bool,
}

#[derive(Debug)]
enum Way {
    /// A description of our own, non-blocking.
    Own(OwnedFd),
    Socket(BorrowedFd<'static>),
    File(BorrowedFd<'static>),
    Polled(BorrowedFd<'static>),
}

impl Out {
    pub fn stdout() -> Out {
        // SAFETY: 1 is open from the start on (`early`) and is never closed.
        let fd = unsafe { BorrowedFd::borrow_raw(1) };
        Out::of(fd, c"/proc/self/fd/1")
    }

    pub fn stderr() -> Out {
        // SAFETY: 2 is open from the start on (`early`) and is never closed.
        let fd = unsafe { BorrowedFd::borrow_raw(2) };
        Out::of(fd, c"/proc/self/fd/2")
    }

    fn of(fd: BorrowedFd<'static>, path: &CStr) -> Out {
        let kind = nix::sys::stat::fstat(fd).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        Out { way: Way::find(fd, kind, path), is_pipe: kind == Ok(SFlag::S_IFIFO) }
    }

    /// Moves up to so many bytes out of a pipe, as of [`fds::splice`].
    ///
    /// # Errors
    /// From splice(2): EINVAL where this is no pipe, EAGAIN where nothing is taken now.
    pub fn take_from(&self, pipe: impl AsFd, most: usize) -> io::Result<usize> {
        if self.is_pipe { fds::splice(pipe, self.way.fd(), most) } else { Err(Errno::EINVAL.into()) }
    }

    /// Whether something is taken now.
    pub fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(self.way.fd(), PollFlags::POLLOUT)];
        // Whoever is gone takes nothing either, which is seen by writing.
        nix::poll::poll(&mut polled, PollTimeout::ZERO) != Ok(0)
    }

    /// It is a file, which is read later if at all.
    pub fn is_file(&self) -> bool {
        matches!(self.way, Way::File(_))
    }

    /// Writes what is taken at once, and says how much that was.
    ///
    /// # Errors
    /// From write(2): EAGAIN where nothing is taken now, EPIPE where nobody reads any more.
    pub fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.way.offer(bytes)?)
    }

    pub fn is_terminal(&self) -> bool {
        nix::unistd::isatty(self.way.fd()).unwrap_or(false)
    }

    /// Writes as much as is taken, and says how much that was. What went wrong is passed over.
    pub fn give(&self, bytes: &[u8]) -> usize {
        self.way.give(bytes)
    }
}

impl AsRawFd for Out {
    fn as_raw_fd(&self) -> RawFd {
        self.way.fd().as_raw_fd()
    }
}

impl Way {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Way::Own(fd) => fd.as_fd(),
            Way::Socket(fd) | Way::File(fd) | Way::Polled(fd) => *fd,
        }
    }

    fn find(fd: BorrowedFd<'static>, kind: nix::Result<SFlag>, path: &CStr) -> Way {
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
