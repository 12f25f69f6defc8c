//! Clocks: the one that deadlines are measured by, and the wall clock with word of its jumps, for cron schedules.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use crate::supervisor::event::Mono;

/// The moment, by a clock that nobody sets (CLOCK_MONOTONIC, clock_gettime(2)).
pub fn now() -> Mono {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes only `time`. It cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The wall clock in milliseconds of Unix time; 0 where it is set to before that.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Says when the wall clock was set, and never wakes anyone otherwise: a timer in a far future that the kernel cancels
/// on every such jump (TFD_TIMER_CANCEL_ON_SET, timerfd_create(2)).
#[derive(Debug)]
pub struct WallWatch(OwnedFd);

impl AsFd for WallWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for WallWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl WallWatch {
    pub fn new() -> io::Result<WallWatch> {
        // SAFETY: timerfd_create takes numbers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        // SAFETY: the call returned a new descriptor, which nobody else owns.
        let watch = WallWatch(unsafe { OwnedFd::from_raw_fd(Errno::result(fd)?) });
        watch.arm()?;
        Ok(watch)
    }

    /// Whether the clock has been set since the last call. To be asked when the descriptor is readable.
    pub fn jumped(&self) -> io::Result<bool> {
        let mut expirations = [0; 8];
        match nix::unistd::read(&self.0, &mut expirations) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            // ECANCELED: set. A timer that ran out was set over the end of time.
            Err(Errno::ECANCELED) | Ok(_) => self.arm().map(|()| true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn arm(&self) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let never = libc::timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let timer = libc::itimerspec { it_interval: zero, it_value: never };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `timer` is initialised; the old setting is not asked for.
        let set = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const timer, ptr::null_mut()) };
        Ok(Errno::result(set).map(drop)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let before = now();
        assert!(before > Mono::default());
        assert!(now() >= before);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_silent() {
        assert!(matches!(WallWatch::new().and_then(|watch| watch.jumped()), Ok(false)));
    }
}
