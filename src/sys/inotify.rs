//! inotify(7): the kernel's word that something in a directory has changed. One [`Inotify`] watches directories, never
//! files, and never through a symbolic link that is below them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify as Nix};

/// A directory under watch. The kernel does not use a number again.
pub use nix::sys::inotify::WatchDescriptor as Watch;

/// Many watches, and one queue of what they see.
#[derive(Debug)]
pub struct Inotify(Nix);

/// What is to be told of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// That it was moved or deleted itself, and nothing of what is in it.
    Itself,
    /// And which names in it come and go.
    Names,
    /// And which of its files change.
    All,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub watch: Watch,
    pub what: What,
    /// The name in the directory; empty where it is about the directory itself.
    pub name: OsString,
    /// The name is, or was, a directory.
    pub is_dir: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Created,
    Deleted,
    MovedAway,
    MovedHere,
    Modified,
    /// Times, mode, owner or the number of links.
    Attributes,
    /// The directory itself has another name or another place, or is gone.
    SelfGone,
    /// The kernel has forgotten the watch: the directory is gone, or the watch was given up.
    Forgotten,
    /// More happened than the queue holds; what, is lost.
    Overflow,
}

/// Why a directory is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The user has as many watches as `fs.inotify.max_user_watches` allows (ENOSPC).
    Quota,
    /// There is no directory of this path.
    Gone,
    /// An errno.
    Other(i32),
}

/// Do not tell of files that have no name any more (linux/inotify.h); nix has no word for it.
const IN_EXCL_UNLINK: u32 = 0x0400_0000;
/// Add to what is told of a directory that is watched already.
const IN_MASK_ADD: u32 = 0x2000_0000;

impl Inotify {
    /// # Errors
    /// EMFILE: this user has as many of them as `fs.inotify.max_user_instances` allows, or no descriptor is left.
    pub fn new() -> io::Result<Inotify> {
        Ok(Inotify(Nix::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// Watches a directory; a symbolic link as `path` itself is followed. One that is watched already keeps its number,
    /// and more may be told of it.
    ///
    /// # Errors
    /// Why not; EACCES where the directory may not be read.
    pub fn watch(&self, path: &Path, notice: Notice) -> Result<Watch, Refused> {
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let names = itself | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        let told = match notice {
            Notice::Itself => itself,
            Notice::Names => names,
            Notice::All => names | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB,
        };
        let how = AddWatchFlags::from_bits_retain(IN_EXCL_UNLINK | IN_MASK_ADD);
        self.0.add_watch(path, told | AddWatchFlags::IN_ONLYDIR | how).map_err(refused)
    }

    /// Gives a watch up; what it has seen and was not read is still told. One that is gone already is fine.
    pub fn forget(&self, watch: Watch) {
        let _ = self.0.rm_watch(watch);
    }

    /// Appends what was seen, at most some hundreds of it. False: there was nothing.
    ///
    /// # Errors
    /// From read(2).
    pub fn read(&self, into: &mut Vec<Seen>) -> io::Result<bool> {
        let events = loop {
            match self.0.read_events() {
                Ok(events) => break events,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        };
        into.extend(events.into_iter().filter_map(|event| {
            let what = meaning(event.mask)?;
            let is_dir = event.mask.contains(AddWatchFlags::IN_ISDIR);
            Some(Seen { watch: event.wd, what, name: event.name.unwrap_or_default(), is_dir })
        }));
        Ok(true)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn refused(errno: Errno) -> Refused {
    if errno == Errno::ENOSPC {
        Refused::Quota
    } else if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
        Refused::Gone
    } else {
        Refused::Other(errno as i32)
    }
}

/// Each event has one of these bits.
fn meaning(mask: AddWatchFlags) -> Option<What> {
    let meanings = [
        (AddWatchFlags::IN_CREATE, What::Created),
        (AddWatchFlags::IN_DELETE, What::Deleted),
        (AddWatchFlags::IN_MOVED_FROM, What::MovedAway),
        (AddWatchFlags::IN_MOVED_TO, What::MovedHere),
        (AddWatchFlags::IN_MODIFY, What::Modified),
        (AddWatchFlags::IN_ATTRIB, What::Attributes),
        (AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_UNMOUNT, What::SelfGone),
        (AddWatchFlags::IN_IGNORED, What::Forgotten),
        (AddWatchFlags::IN_Q_OVERFLOW, What::Overflow),
    ];
    meanings.into_iter().find(|(bits, _)| mask.intersects(*bits)).map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    #[test]
    fn a_directory_tells_what_happens_in_it() {
        let dir = std::env::temp_dir().join(format!("pm3-inotify-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(&dir, Notice::Names).unwrap();
        let told = || {
            let mut seen = Vec::new();
            while inotify.read(&mut seen).unwrap() {}
            seen.into_iter().map(|one| (one.what, one.name.into_string().unwrap(), one.is_dir)).collect::<Vec<_>>()
        };
        assert_eq!(told(), []);
        fs::write(dir.join("a"), "1").unwrap();
        fs::create_dir(dir.join("b")).unwrap();
        assert_eq!(told(), [(What::Created, "a".into(), false), (What::Created, "b".into(), true)]);
        // More of the same directory, with the same number.
        assert_eq!(inotify.watch(&dir, Notice::All).unwrap(), watch);
        fs::write(dir.join("a"), "2").unwrap();
        fs::rename(dir.join("a"), dir.join("c")).unwrap();
        fs::remove_file(dir.join("c")).unwrap();
        fs::remove_dir(dir.join("b")).unwrap();
        let expected = [
            (What::Modified, "a".into(), false),
            (What::MovedAway, "a".into(), false),
            (What::MovedHere, "c".into(), false),
            (What::Deleted, "c".into(), false),
            (What::Deleted, "b".into(), true),
        ];
        let seen: Vec<_> = told().into_iter().filter(|(what, ..)| *what != What::Attributes).collect();
        assert_eq!(seen, expected);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(told(), [(What::SelfGone, String::new(), false), (What::Forgotten, String::new(), false)]);
        inotify.forget(watch);
        assert_eq!(inotify.watch(&dir, Notice::All), Err(Refused::Gone));
    }
}
