//! Files that verbs write: each is there whole or not at all, whenever the power goes.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Puts a file with this text and this mode in the place of what was there.
///
/// # Errors
/// What was there is as it was.
pub(super) fn write(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    let beside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = || {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        new.write_all(text.as_bytes())?;
        // The umask of whoever asks is not meant.
        new.set_permissions(Permissions::from_mode(mode))?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    match written() {
        // One that was left behind by a process that had our pid.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&beside)?;
            written()
        }
        other => other,
    }
    .inspect_err(|_| drop(fs::remove_file(&beside)))
}
