//! Compressing an old log file, aside: a copy of this process reads it and writes another one, and has the right to nothing
//! else; the streams go on meanwhile, and what it takes of memory is gone with it. Only what is whole gets its name, and only
//! then the old one goes: so whoever is killed in between, the lines are there.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::gzip::gzip;
use super::rotate;
use crate::sys::fork::{self, Worker};
use crate::sys::spawn::ids::Ids;
use crate::sys::{errno, shelf};

/// An old file to be compressed.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Whose old file it is: the number of a place.
    pub(super) number: usize,
    pub(super) directory: PathBuf,
    pub(super) name: String,
    pub(super) ids: Ids,
}

/// One that is being compressed.
#[derive(Debug)]
pub(super) struct Press {
    pub(super) job: Job,
    old: File,
    worker: Worker,
    /// What the copy has said: how many bytes it has read, or an errno.
    said: Vec<u8>,
}

impl AsRawFd for Press {
    /// Readable when there is something to go on with.
    fn as_raw_fd(&self) -> RawFd {
        self.worker.result.as_raw_fd()
    }
}

impl Press {
    /// # Errors
    /// From open(2) or fork(2).
    pub(super) fn start(job: Job) -> io::Result<Press> {
        let old = shelf::open(&job.old(), &job.ids)?;
        let mode = old.metadata()?.mode() & 0o777;
        let temp = match shelf::create(&job.begun(), &job.ids, mode) {
            // Left by one that was killed, or put there by somebody.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                shelf::remove(&job.begun(), &job.ids)?;
                shelf::create(&job.begun(), &job.ids, mode)?
            }
            made => made?,
        };
        let work = || match gzip(&mut &old, &mut &temp) {
            Ok(count) => count.to_ne_bytes().into(),
            Err(error) => errno::of(&error).to_ne_bytes().into(),
        };
        let worker = fork::aside(c"pm3-gzip", [&old, &temp], work)?;
        Ok(Press { job, old, worker, said: Vec::new() })
    }

    /// Goes on. None: it is not done yet.
    ///
    /// # Errors
    /// It could not be done, and the old file is as it was.
    pub(super) fn go_on(&mut self) -> Option<io::Result<()>> {
        match fork::receive(&self.worker, &mut self.said, size_of::<u64>()) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(_) => fork::give_up(&self.worker),
        }
        fork::collect(&self.worker);
        Some(self.finish())
    }

    /// It will not be done now.
    pub(super) fn give_up(&self) {
        fork::give_up(&self.worker);
        fork::collect(&self.worker);
        let _ = shelf::remove(&self.job.begun(), &self.job.ids);
    }

    fn finish(&self) -> io::Result<()> {
        let Job { ids, .. } = &self.job;
        let read = <[u8; 8]>::try_from(&*self.said).ok().map(u64::from_ne_bytes);
        if read == Some(self.old.metadata()?.len()) {
            return match shelf::replace(&self.job.begun(), &self.job.pressed(), ids) {
                Ok(()) => shelf::remove(&self.job.old(), ids),
                // It was among those that are not to stay any more.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
        }
        shelf::remove(&self.job.begun(), ids)?;
        match <[u8; 4]>::try_from(&*self.said) {
            Ok(errno) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            // Somebody has written to it meanwhile, and may again.
            Err(_) if read.is_some() => Err(io::Error::other("it has grown meanwhile")),
            Err(_) => Err(io::Error::other("it was ended in the midst")),
        }
    }
}

impl Job {
    pub(super) fn old(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    fn begun(&self) -> PathBuf {
        self.directory.join(rotate::begun(&self.name))
    }

    fn pressed(&self) -> PathBuf {
        self.directory.join(rotate::pressed(&self.name))
    }

    /// Whose name is to be left alone among the old files of this one.
    pub(super) fn is_beside(&self, path: &Path) -> bool {
        path.parent() == Some(&*self.directory)
    }
}
