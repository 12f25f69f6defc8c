//! The old files beside a log file: put there, looked for, opened and removed with the rights of the user whose output it
//! is, as in `append`. The directory may be that user's, who may put anything there at any moment: so no link is followed,
//! nothing is overwritten, and no more is done than this user could do.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use super::append::with_rights_of;
use super::spawn::ids::Ids;

/// So many names of a directory are looked at; whoever has more there has none that are found later.
const NAMES_MAX: usize = 65_536;

/// The names in a directory that are text.
///
/// # Errors
/// From open(2) and getdents(2).
pub fn names(directory: &Path, ids: &Ids) -> io::Result<Vec<String>> {
    with_rights_of(ids, || {
        let entries = fs::read_dir(directory)?.take(NAMES_MAX);
        entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
    })
}

/// Whether this is the name of an open file, and not of another one that has come into its place, or of a link.
///
/// # Errors
/// From fstat(2) and lstat(2).
pub fn is_name_of(path: &Path, file: &File, ids: &Ids) -> io::Result<bool> {
    let open = file.metadata()?;
    match with_rights_of(ids, || fs::symlink_metadata(path)) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a file another name in its directory, if there is none of that name.
///
/// # Errors
/// From renameat2(2): EEXIST.
pub fn rename(from: &Path, to: &Path, ids: &Ids) -> io::Result<()> {
    let (old, new) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
    with_rights_of(ids, || {
        let (old, new) = (old.as_ptr(), new.as_ptr());
        // SAFETY: both are texts that outlive the call, and the rest are numbers.
        let done = unsafe {
            libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, old, libc::AT_FDCWD, new, libc::RENAME_NOREPLACE)
        };
        match Errno::result(done) {
            Ok(_) => Ok(()),
            // A file system that cannot do both at once (NFS, for one): who comes in between overwrites his own.
            Err(Errno::EINVAL | Errno::ENOSYS) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
            Err(errno) => Err(errno.into()),
        }
    })
}

/// Gives a file another name in its directory, in place of what has that name.
///
/// # Errors
/// From rename(2).
pub fn replace(from: &Path, to: &Path, ids: &Ids) -> io::Result<()> {
    with_rights_of(ids, || fs::rename(from, to))
}

/// Removes a file, or a link; one that is not there is as good as removed.
///
/// # Errors
/// From unlink(2).
pub fn remove(path: &Path, ids: &Ids) -> io::Result<()> {
    match with_rights_of(ids, || fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens a file to read it, if it is one.
///
/// # Errors
/// From open(2): ELOOP for a link. Or a line without an errno: it is no file.
pub fn open(path: &Path, ids: &Ids) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = with_rights_of(ids, || OpenOptions::new().read(true).custom_flags(flags).open(path))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is no file")) }
}

/// Makes a file that only its user may read.
///
/// # Errors
/// From open(2): EEXIST, for a link too.
pub fn create(path: &Path, ids: &Ids, mode: u32) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NOCTTY;
    with_rights_of(ids, || OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(flags).open(path))
}
