//! This program once more in its own place: the same pid with other words. What must survive the exec goes along: signals
//! stay blocked and those that wait are kept, and a plan travels in a sealed memory file, whose number the words carry.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag};
use nix::sys::memfd::MFdFlags;

use super::fds;

/// This program, whatever its file is called now, or if it was replaced (proc_pid_exe(5)).
pub const SELF: &CStr = c"/proc/self/exe";

/// Executes this program with other words, the program's name first, in place of what it is doing.
///
/// # Errors
/// From execve(2); ENOENT without /proc. Nothing has changed then.
pub fn become_anew(words: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    Ok(nix::unistd::execve(SELF, words, environment)?)
}

/// A file in memory that nobody can change any more, open across exec.
///
/// # Errors
/// From memfd_create(2) and write(2).
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = nix::sys::memfd::memfd_create(c"pm3-plan", MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    nix::fcntl::fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Takes over a descriptor that this program was executed with, by its number; from now on it is closed at an exec.
/// None: it is not open, one of the first three, or not meant to be handed on.
pub fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes numbers.
    let flags = unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) };
    // Pm3's own descriptors all have close-on-exec, so this is no second owner of one of them.
    if number < 3 || flags < 0 || flags & FdFlag::FD_CLOEXEC.bits() != 0 {
        return None;
    }
    // SAFETY: it is open, and nothing else in this program knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fds::set_cloexec(fd.as_fd(), true).ok()?;
    Some(fd)
}

/// Gives this process a name of at most 15 bytes, as `ps` shows it: after [`SELF`] it would be `exe`.
pub fn take_name(name: &CStr) {
    let _: Result<(), Errno> = nix::sys::prctl::set_name(name);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn what_is_sealed_can_be_read_and_not_changed() {
        let mut file = File::from(sealed(b"plan").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "plan");
        assert!(file.write_all(b"more").is_err() && file.set_len(1).is_err());
    }

    #[test]
    fn only_what_was_handed_on_is_adopted() {
        for number in [-1, 0, 1, 2, 9_999] {
            assert!(adopt(number).is_none(), "{number}");
        }
        let own = File::open("/dev/null").unwrap();
        assert!(adopt(own.as_raw_fd()).is_none());
        let handed_on = sealed(b"plan").unwrap().into_raw_fd();
        let adopted = adopt(handed_on).unwrap();
        assert_eq!(adopted.as_raw_fd(), handed_on);
        // The second time it is pm3's own.
        assert!(adopt(handed_on).is_none());
    }
}
