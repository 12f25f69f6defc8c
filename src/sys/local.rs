//! A Unix socket that pm3 listens at for an app (unix(7)): its file is the app's own from the first moment on, and goes
//! when pm3 says so. What is there already is replaced only if it is a socket that nobody listens at. The last name of the
//! path is never followed, and a file that somebody has put in the place of ours changes neither hands nor mode.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::socket::{Owner, listen_at};

/// One that listens.
#[derive(Debug)]
pub struct Local {
    fd: OwnedFd,
    /// Names it on this machine.
    pub inode: u64,
    /// Its file: the device and the inode there.
    file: (u64, u64),
}

impl Local {
    /// Listens at `path`, with a file of this mode and owner, so that so many connections may wait. It blocks.
    ///
    /// # Errors
    /// EADDRINUSE: somebody listens there. EEXIST: something else is there. From bind(2) and fchownat(2).
    pub fn open(path: &Path, mode: u32, owner: Owner, backlog: u32) -> io::Result<Local> {
        make_way(path)?;
        let fd = OwnedFd::from(listen_at(path, mode, owner, backlog)?);
        let found = Spot::of(path)?.look().inspect_err(|_| drop(std::fs::remove_file(path)))?;
        let local = Local { inode: fstat(&fd)?.st_ino, file: (found.st_dev, found.st_ino), fd };
        local.block();
        Ok(local)
    }

    /// Has accept(2) wait. It is a matter of the socket, so nobody may have it who wants it otherwise.
    pub fn block(&self) {
        // It cannot fail with an open descriptor.
        let _ = nix::fcntl::fcntl(&self.fd, FcntlArg::F_SETFL(OFlag::O_RDWR));
    }

    /// Who connects at `path` comes here: nobody has taken the file away.
    pub fn is_at(&self, path: &Path) -> bool {
        let found = Spot::of(path).and_then(|spot| Ok(spot.look()?));
        found.is_ok_and(|found| (found.st_dev, found.st_ino) == self.file)
    }

    /// Takes its file away, if that is still its own. Who holds the socket goes on with what waits there.
    pub fn remove(&self, path: &Path) {
        let Ok(spot) = Spot::of(path) else { return };
        if spot.look().is_ok_and(|found| (found.st_dev, found.st_ino) == self.file) {
            let _ = spot.unlink();
        }
    }
}

impl AsFd for Local {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name in a directory that stays the same whatever becomes of the way there.
struct Spot<'a> {
    directory: OwnedFd,
    name: &'a OsStr,
}

impl Spot<'_> {
    fn of(path: &Path) -> io::Result<Spot<'_>> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Spot { directory: open(directory, flags, Mode::empty())?, name })
    }

    fn look(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory, self.name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn unlink(&self) -> nix::Result<()> {
        unlinkat(&self.directory, self.name, UnlinkatFlags::NoRemoveDir)
    }
}

/// Removes what somebody has left who listens there no more.
fn make_way(path: &Path) -> io::Result<()> {
    let spot = Spot::of(path)?;
    match spot.look() {
        Err(Errno::ENOENT) => return Ok(()),
        Ok(found) if is_socket(&found) => {}
        Ok(_) => return Err(Errno::EEXIST.into()),
        Err(error) => return Err(error.into()),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(client.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(spot.unlink()?),
        // It has gone meanwhile.
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(_) => Err(Errno::EADDRINUSE.into()),
    }
}

/// The kind of a file is a socket's.
pub(super) fn is_socket(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("pm3-local-{}-{name}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(path: &Path) -> io::Result<Local> {
        Local::open(path, 0o640, Owner::default(), 8)
    }

    #[test]
    fn it_is_there_until_it_is_removed() {
        let scratch = Scratch::new("there");
        let path = scratch.0.join("s");
        let local = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(local.is_at(&path));
        UnixStream::connect(&path).unwrap();
        local.remove(&path);
        assert!(!path.exists() && !local.is_at(&path));
    }

    #[test]
    fn what_nobody_listens_at_is_replaced_and_nothing_else() {
        let scratch = Scratch::new("stale");
        let path = scratch.0.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let local = open(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        assert!(local.is_at(&path));
        // Somebody else's by now.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        assert!(!local.is_at(&path));
        local.remove(&path);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(open(&path).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_link_is_not_followed() {
        let scratch = Scratch::new("link");
        let (path, target) = (scratch.0.join("s"), scratch.0.join("t"));
        drop(UnixListener::bind(&target).unwrap());
        for there in [&target, &scratch.0.join("missing")] {
            symlink(there, &path).unwrap();
            assert_eq!(open(&path).unwrap_err().raw_os_error(), Some(libc::EEXIST));
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::metadata(&target).unwrap().nlink(), 1);
        assert!(!scratch.0.join("missing").exists());
    }
}
