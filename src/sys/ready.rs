//! Waiting for one of a few descriptors, for the roles that have no more than that. Init's loop is mio's.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

/// Waits until one of them can be read, at most this long, and says which can; one that is broken counts as readable,
/// since reading tells how. None of them: the time is over, or a signal came.
///
/// # Errors
/// From ppoll(2).
pub fn readable<const N: usize>(fds: [BorrowedFd<'_>; N], most: Option<Duration>) -> io::Result<[bool; N]> {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match nix::poll::ppoll(&mut fds, most.map(TimeSpec::from_duration), None) {
        Ok(_) => Ok(fds.map(|fd| fd.any().unwrap_or(true))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(errno) => Err(errno.into()),
    }
}
