//! The calls that wait for an answer, and the answers (seccomp_unotify(2)). Nothing here waits: a call is received only
//! when poll says that there is one, as receiving blocks even on a descriptor that does not.

use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// The listener of one child's filter. Dropping it makes `bind` and `listen` fail with ENOSYS in whatever is left of its
/// tree: it is kept until [`Calls::next`] says that nobody is left.
#[derive(Debug)]
pub struct Calls(OwnedFd);

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The thread that made it; 0 where it is in a pid namespace that we cannot see.
    pub thread: u32,
    /// The socket's number in that thread's table of descriptors.
    pub fd: RawFd,
    pub wanted: Wanted,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `bind`: an address so long, there in the caller's memory.
    Bind {
        address: u64,
        length: u32,
    },
    Listen,
    /// `getsockopt` of SO_ACCEPTCONN: whether the socket listens already. Who hears that it does never calls `listen`.
    Listens,
}

/// What [`Calls::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Call(Call),
    Nothing,
    /// No process has the filter any more.
    Over,
}

/// What the kernel fills in. It may know more fields than we do (seccomp_unotify(2)): there is room.
#[repr(C)]
struct Room {
    notification: libc::seccomp_notif,
    more: [u64; 16],
}

impl Calls {
    pub(in crate::sys) fn new(listener: OwnedFd) -> Calls {
        Calls(listener)
    }

    /// The next call that waits.
    pub fn next(&self) -> Next {
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut polled, PollTimeout::ZERO) {
                Err(Errno::EINTR) => continue,
                Err(_) | Ok(0) => return Next::Nothing,
                Ok(_) => {}
            }
            let [polled] = polled;
            let seen = polled.revents().unwrap_or(PollFlags::empty());
            if !seen.contains(PollFlags::POLLIN) {
                return if seen.contains(PollFlags::POLLHUP) { Next::Over } else { Next::Nothing };
            }
            // The kernel wants zeros.
            let mut room = MaybeUninit::<Room>::zeroed();
            // SAFETY: the kernel fills in its notification, for which there is room.
            let done =
                unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, room.as_mut_ptr()) };
            match Errno::result(done) {
                Ok(_) => {}
                // ENOENT: whoever called was killed meanwhile.
                Err(Errno::ENOENT | Errno::EINTR) => continue,
                Err(_) => return Next::Nothing,
            }
            // SAFETY: it was zeroed, which is a value of each field.
            let Room { notification, .. } = unsafe { room.assume_init() };
            match read(&notification) {
                Some(call) => return Next::Call(call),
                None => self.send(notification.id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            }
        }
    }

    /// The call is done as if nobody had looked.
    pub fn pass(&self, call: &Call) {
        self.send(call.id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32);
    }

    /// The call succeeds, and nothing was done.
    pub fn grant(&self, call: &Call) {
        self.send(call.id, 0, 0);
    }

    /// The call fails.
    pub fn refuse(&self, call: &Call, errno: i32) {
        self.send(call.id, -errno, 0);
    }

    /// Puts a copy of `socket` in the place of the caller's own one, close-on-exec or not. The call goes on waiting.
    ///
    /// # Errors
    /// The caller is gone, or may have no more descriptors.
    pub fn give(&self, call: &Call, socket: impl AsFd, cloexec: bool) -> Result<(), Errno> {
        let number = u32::try_from(call.fd).map_err(|_| Errno::EBADF)?;
        let flags = if cloexec { libc::O_CLOEXEC as u32 } else { 0 };
        add(&self.0, call.id, socket.as_fd(), number, flags)
    }

    /// Whether the caller still waits: what was read about it until now was about it and not about another one that has
    /// got its number since.
    pub fn is_waiting(&self, call: &Call) -> bool {
        let id = call.id;
        // SAFETY: the kernel reads the number.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) };
        done == 0
    }

    /// Whoever was to get it may be gone by now, which is no matter.
    fn send(&self, id: u64, error: i32, flags: u32) {
        let answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
        // SAFETY: the kernel reads the answer.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const answer) };
    }
}

impl AsRawFd for Calls {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn read(notification: &libc::seccomp_notif) -> Option<Call> {
    let [fd, address, length, ..] = notification.data.args;
    let wanted = match i64::from(notification.data.nr) {
        libc::SYS_bind => Wanted::Bind { address, length: length as u32 },
        libc::SYS_listen => Wanted::Listen,
        libc::SYS_getsockopt => Wanted::Listens,
        _ => return None,
    };
    Some(Call { id: notification.id, thread: notification.pid, fd: fd as u32 as RawFd, wanted })
}

/// Puts `socket` under `number` into the table of whoever made the call.
fn add(listener: &OwnedFd, id: u64, socket: BorrowedFd<'_>, number: u32, newfd_flags: u32) -> Result<(), Errno> {
    let addition = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: socket.as_raw_fd().unsigned_abs(),
        newfd: number,
        newfd_flags,
    };
    let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD as _;
    // SAFETY: the kernel reads the addition.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const addition) };
    Errno::result(done).map(drop)
}

/// Whether the kernel can give a descriptor to a caller: Linux 5.9. Asked about a call that nobody has made.
pub(super) fn can_give(listener: &OwnedFd) -> Result<(), Errno> {
    match add(listener, u64::MAX, listener.as_fd(), 0, 0) {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

const _: () = assert!(offset_of!(Room, notification) == 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_and_a_strange_one_is_not() {
        // SAFETY: zeros are a value of each field.
        let mut notification: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
        notification.id = 7;
        notification.pid = 42;
        notification.data.args = [u64::from(u32::MAX), 0x1000, 16 | 1 << 40, 0, 0, 0];
        notification.data.nr = libc::SYS_bind as i32;
        let wanted = Wanted::Bind { address: 0x1000, length: 16 };
        assert_eq!(read(&notification), Some(Call { id: 7, thread: 42, fd: -1, wanted }));
        notification.data.nr = libc::SYS_listen as i32;
        assert_eq!(read(&notification).map(|call| call.wanted), Some(Wanted::Listen));
        notification.data.nr = libc::SYS_getsockopt as i32;
        assert_eq!(read(&notification).map(|call| call.wanted), Some(Wanted::Listens));
        notification.data.nr = libc::SYS_connect as i32;
        assert_eq!(read(&notification), None);
    }
}
