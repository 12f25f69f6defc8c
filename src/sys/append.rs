//! Opening files that output is appended to, with the rights of the user whose output it is: who may write to a log file,
//! and whose it becomes, must not depend on which process does the writing.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setfsgid, setfsuid, setgroups};

use super::spawn::ids::{Groups, Ids};

/// Opens a file for appending, as these ids; it is made with mode 0640 if it is not there. Never through a symbolic link,
/// which an app may have put there, and without waiting for anybody to read it, should it be a FIFO.
///
/// # Errors
/// From open(2): ELOOP for a link, ENXIO for a FIFO that nobody reads.
pub fn open(path: &Path, ids: &Ids) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK;
    let opened = with_rights_of(ids, || nix::fcntl::open(path.as_c_str(), flags, Mode::from_bits_truncate(0o640)));
    Ok(File::from(opened?))
}

/// Makes a directory, and those above it that are missing, as these ids. What is there already stays as it is, be it a
/// directory or a link to one.
///
/// # Errors
/// From mkdir(2).
pub fn make_directory(path: &Path, ids: &Ids, mode: u32) -> io::Result<()> {
    with_rights_of(ids, || DirBuilder::new().recursive(true).mode(mode).create(path))
}

/// Empties a file, as these ids; one that is not there is as good as empty.
///
/// # Errors
/// From open(2), as of [`open`].
pub fn empty(path: &Path, ids: &Ids) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags =
        OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match with_rights_of(ids, || nix::fcntl::open(path.as_c_str(), flags, Mode::empty())) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Does something about files as these ids, which no other call of this process is made with (setfsuid(2)). Who may not
/// become them does it as itself; but then it could not have started an app as them either.
pub(super) fn with_rights_of<T>(ids: &Ids, act: impl FnOnce() -> T) -> T {
    let (uid, gid) = (geteuid(), getegid());
    if ids.uid.is_none_or(|other| other == uid.as_raw()) && ids.gid.is_none_or(|other| other == gid.as_raw()) {
        return act();
    }
    let before = getgroups().unwrap_or_default();
    let groups: Option<Vec<Gid>> = match &ids.groups {
        Groups::Keep => None,
        Groups::Clear => Some(Vec::new()),
        Groups::Set(groups) => Some(groups.iter().copied().map(Gid::from_raw).collect()),
    };
    if let Some(groups) = &groups {
        let _ = setgroups(groups);
    }
    setfsgid(ids.gid.map_or(gid, Gid::from_raw));
    setfsuid(ids.uid.map_or(uid, Uid::from_raw));
    let done = act();
    setfsuid(uid);
    setfsgid(gid);
    if groups.is_some() {
        let _ = setgroups(&before);
    }
    done
}
