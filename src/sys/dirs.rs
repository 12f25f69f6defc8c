//! Directories that pm3 makes for its own files, and whether they are its own: where somebody else may rename and link,
//! what root writes ends up where they want it. It looks and makes; what to do about a directory is for the caller.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

/// Makes a directory and those above it that are missing, with this mode whatever the umask is. One that is there is left
/// as it is. As root only where nobody else could put something in the place of what is made there.
///
/// # Errors
/// From mkdir(2). Or a line without an errno: others may write there.
pub fn make(directory: &Path, mode: u32) -> io::Result<()> {
    refuse_shared(directory, false)?;
    without_umask(|| DirBuilder::new().recursive(true).mode(mode).create(directory))?;
    refuse_shared(directory, false)
}

/// Opens a file of ours to lock it; makes it where it is missing. Never through a symbolic link, whoever has put it there.
///
/// # Errors
/// From open(2): ELOOP for a link.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Does something with an umask of 0, so that a mode that is asked for is the one that comes to be. The umask is the whole
/// process's, and init has one thread.
pub(super) fn without_umask<T>(act: impl FnOnce() -> T) -> T {
    let before = umask(Mode::empty());
    let done = act();
    umask(before);
    done
}

/// Refuses a directory for root's files, if this process is root, where others could put theirs in the place of them: there,
/// or on the way to there. Of those who may write, root and the owner of `/` do not count, who may everything anyway; nor do
/// those whom the sticky bit keeps from what is not theirs, but for `directory` itself where that `is_home`: they could be
/// first with a name. What is not there yet is judged by what it would be made in.
///
/// # Errors
/// A line without an errno: it is refused. Else a directory on the way cannot be looked at.
pub fn refuse_shared(directory: &Path, is_home: bool) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    match shared(&std::path::absolute(directory)?, is_home)? {
        None => Ok(()),
        Some(open) => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "others than root may write to {}; name a directory of root's with PM3_HOME, or run pm3 as the user \
                 whose it is",
                open.display()
            ),
        )),
    }
}

/// The first directory on the way to this one, from the root on, where others than root may write. Where nobody else may,
/// the next name stays what it is: so nothing can be exchanged meanwhile.
fn shared(directory: &Path, is_home: bool) -> io::Result<Option<PathBuf>> {
    let top = fs::metadata("/")?.uid();
    let there = directory.ancestors().find(|one| one.exists()).unwrap_or(Path::new("/"));
    let is_home = is_home && there == directory;
    let there = there.canonicalize()?;
    let way: Vec<&Path> = there.ancestors().collect();
    for at in way.into_iter().rev() {
        let found = fs::symlink_metadata(at)?;
        let is_strangers = found.uid() != 0 && found.uid() != top;
        let groups = if found.gid() == 0 { 0 } else { 0o020 };
        let is_sticky = found.mode() & 0o1000 != 0 && !(is_home && at == there);
        if is_strangers || (found.mode() & (0o002 | groups) != 0 && !is_sticky) {
            return Ok(Some(at.to_path_buf()));
        }
    }
    Ok(None)
}
