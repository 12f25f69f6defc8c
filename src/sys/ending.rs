//! The end of a process that is not a child of ours, as an event (pidfd_open(2)). For clients: init knows its children, and
//! needs no descriptor for each.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// A process that may end.
#[derive(Debug)]
pub struct Ending(OwnedFd);

impl Ending {
    /// # Errors
    /// ESRCH: it has ended already. ENOSYS: a filter refuses the call.
    pub fn of(pid: u32) -> io::Result<Ending> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
        // SAFETY: pidfd_open takes numbers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: it was opened for us a moment ago, close-on-exec.
        Ok(Ending(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits until it has ended. False: it has not, within this time.
    pub fn wait(&self, most: Duration) -> bool {
        let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut polled, most) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return false,
                Ok(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_end_is_an_event() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ending = Ending::of(child.id()).unwrap();
        assert!(!ending.wait(Duration::ZERO));
        drop(child.stdin.take());
        assert!(ending.wait(Duration::from_secs(20)));
        child.wait().unwrap();
        assert_eq!(Ending::of(child.id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
