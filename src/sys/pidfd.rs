//! A process by a descriptor in place of its number (pidfd_open(2)): for one that may be somebody else's child. Then it is
//! that one who reaps it, and the number may be another's at any time; but the descriptor tells of its end, and never
//! means another process.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::kill::Sent;
use crate::supervisor::event::{End, Sig};

/// A process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl PidFd {
    /// The process that has this number now. The descriptor is readable once it has ended.
    ///
    /// # Errors
    /// From pidfd_open(2): there is none (ESRCH), no descriptor is left, or a filter does not let us (EPERM, ENOSYS).
    pub fn open(pid: u32) -> io::Result<PidFd> {
        let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
        // SAFETY: pidfd_open takes numbers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = RawFd::try_from(fd).map_err(|_| Errno::EMFILE)?;
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether it has ended, reaped or not.
    pub fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Reaps it, if it has ended. [`End::Unseen`]: as a child of somebody else, to whom the kernel has told how.
    pub fn end(&self) -> Option<End> {
        if !self.has_ended() {
            return None;
        }
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let (flags, id) = (libc::WEXITED | libc::WNOHANG | libc::__WALL, self.0.as_raw_fd().unsigned_abs());
        // SAFETY: waitid writes only `info`.
        let done = Errno::result(unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), flags) });
        // SAFETY: all zero is a valid siginfo_t, and stays so where there is nothing to tell.
        let info = unsafe { info.assume_init() };
        match done {
            // A debugger holds it still.
            Ok(_) if info.si_signo == 0 => None,
            Ok(_) => {
                // SAFETY: waitid has filled in what SIGCHLD tells.
                let status = u8::try_from(unsafe { info.si_status() }).unwrap_or(u8::MAX);
                Some(if info.si_code == libc::CLD_EXITED { End::Code(status) } else { End::Signal(Sig(status)) })
            }
            Err(_) => Some(End::Unseen),
        }
    }

    /// Signals it (pidfd_send_signal(2)).
    pub fn signal(&self, sig: Sig) -> Sent {
        let (fd, none) = (self.0.as_raw_fd(), std::ptr::null_mut::<libc::siginfo_t>());
        // SAFETY: it takes numbers, and a null pointer for information of our own.
        match Errno::result(unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::c_int::from(sig.0), none, 0)
        }) {
            Ok(_) => Sent::Delivered,
            Err(Errno::EPERM) => Sent::Refused,
            Err(_) => Sent::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    /// A shell that does this when its input ends.
    fn shell(script: &str) -> std::process::Child {
        let script = format!("read line; {script}");
        Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    fn end_of(process: &PidFd) -> End {
        loop {
            if let Some(end) = process.end() {
                return end;
            }
            let mut polled = [PollFd::new(process.0.as_fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut polled, PollTimeout::NONE).unwrap();
        }
    }

    #[test]
    fn our_child_is_reaped_with_its_end() {
        for (script, end) in [("exit 7", End::Code(7)), ("kill -9 $$", End::Signal(Sig::KILL)), (":", End::Code(0))] {
            let mut child = shell(script);
            let process = PidFd::open(child.id()).unwrap();
            assert_eq!((process.has_ended(), process.end()), (false, None));
            drop(child.stdin.take());
            assert_eq!(end_of(&process), end);
            // It is gone, and the kernel tells only once.
            assert_eq!(process.end(), Some(End::Unseen));
            assert_eq!(process.signal(Sig::KILL), Sent::Gone);
            assert!(child.wait().is_err());
        }
    }

    #[test]
    fn a_signal_reaches_it() {
        let mut child = shell("exit 7");
        let process = PidFd::open(child.id()).unwrap();
        assert_eq!(process.signal(Sig::TERM), Sent::Delivered);
        assert_eq!(end_of(&process), End::Signal(Sig::TERM));
        assert!(child.wait().is_err());
    }

    #[test]
    fn of_a_process_that_another_reaps_only_the_end_is_seen() {
        let mut parent = Command::new("/bin/sh");
        let script = "exec 3<&0; /bin/sh -c 'read line; exit 7' <&3 & echo $!; wait $!; echo $?";
        let mut parent = parent.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(parent.stdout.take().unwrap()));
        let process = PidFd::open(lines.next().unwrap().unwrap().parse().unwrap()).unwrap();
        assert_eq!(process.end(), None);
        drop(parent.stdin.take());
        assert_eq!(end_of(&process), End::Unseen);
        assert_eq!(lines.next().unwrap().unwrap(), "7");
        assert!(parent.wait().unwrap().success());
    }

    #[test]
    fn there_is_none_for_what_is_no_process() {
        for pid in [0, u32::MAX, 1 << 30] {
            assert!(PidFd::open(pid).is_err(), "{pid}");
        }
    }
}
