//! A run's mark in the environment of a process, by which init knows orphans again that left their session. Read of
//! processes of any user, as far as the kernel allows it: without CAP_SYS_PTRACE that is under their own file-system
//! ids, and never of one that made itself undumpable.
//!
//! The kernel reads this out of the process's memory, so it waits where that has to come from a disk or a file server
//! that does not answer. So only orphans are asked: a process that is its parent's child needs no mark.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use super::file;

/// A mark is no longer than this.
pub const MARK_MAX: usize = 64;

/// What is looked through of an environment; a larger one has its mark in vain.
const LOOK_MAX: usize = 256 << 10;

const NAME: &[u8] = b"PM3_RUN=";

/// The mark of a process; empty if it has none or it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    text: [u8; MARK_MAX],
    len: usize,
}

impl Mark {
    pub(super) const NONE: Mark = Mark { text: [0; MARK_MAX], len: 0 };

    pub(super) fn is_none(&self) -> bool {
        self.len == 0
    }

    /// Whether it is this one. An empty one is none.
    pub(super) fn is(&self, mark: &str) -> bool {
        self.len > 0 && self.text.get(..self.len) == Some(mark.as_bytes())
    }
}

/// The process's mark.
pub(super) fn mark(pid: u32) -> Mark {
    let Ok(environ) = open_as_owner(pid, "environ") else { return Mark::NONE };
    let mut scan = Scan::START;
    let mut chunk = [0; 1024];
    for _ in 0..LOOK_MAX / chunk.len() {
        match file::fill(&environ, &mut chunk) {
            Ok(read) if !read.is_empty() => {
                if let Some(mark) = read.iter().find_map(|byte| scan.next(*byte)) {
                    return mark;
                }
            }
            _ => break,
        }
    }
    // The last entry may lack its NUL.
    scan.next(0).unwrap_or(Mark::NONE)
}

/// Goes through `NAME=value` entries, each ended by a NUL, byte by byte.
#[derive(Debug)]
enum Scan {
    /// So many bytes of the name have matched.
    Name(usize),
    Value(Mark),
    /// Another variable, or a value that is too long to be a mark.
    Other,
}

impl Scan {
    const START: Scan = Scan::Name(0);

    fn next(&mut self, byte: u8) -> Option<Mark> {
        *self = match (&mut *self, byte) {
            (Scan::Value(mark), 0) => return Some(*mark),
            (_, 0) => Scan::Name(0),
            (Scan::Name(matched), byte) if NAME.get(*matched) == Some(&byte) => match *matched + 1 {
                all if all == NAME.len() => Scan::Value(Mark::NONE),
                matched => Scan::Name(matched),
            },
            (Scan::Value(mark), byte) => match mark.text.get_mut(mark.len) {
                Some(slot) => {
                    *slot = byte;
                    mark.len += 1;
                    return None;
                }
                None => Scan::Other,
            },
            (Scan::Name(_) | Scan::Other, _) => Scan::Other,
        };
        None
    }
}

/// Opens a file of a process that only its owner may read.
pub(super) fn open_as_owner(pid: u32, name: &str) -> nix::Result<OwnedFd> {
    as_owner(pid, || file::open(format_args!("/proc/{pid}/{name}")))
}

/// Looks at what only the owner of a process may look at, as that owner if need be (setfsuid(2)).
pub(in crate::sys) fn as_owner<T>(pid: u32, mut look: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    match look() {
        Err(Errno::EACCES | Errno::EPERM) => {}
        seen => return seen,
    }
    let owner = file::with_path(format_args!("/proc/{pid}"), nix::sys::stat::stat)?;
    let gid = nix::unistd::setfsgid(Gid::from_raw(owner.st_gid));
    let uid = nix::unistd::setfsuid(Uid::from_raw(owner.st_uid));
    let seen = look();
    nix::unistd::setfsuid(uid);
    nix::unistd::setfsgid(gid);
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environ: &[u8], mark: &str) {
        let mut scan = Scan::START;
        let found = environ.iter().chain([&0]).find_map(|byte| scan.next(*byte)).unwrap_or(Mark::NONE);
        assert_eq!(str::from_utf8(&found.text[..found.len]), Ok(mark), "{:?}", String::from_utf8_lossy(environ));
        assert_eq!(found.is(mark), !mark.is_empty());
    }

    #[test]
    fn the_mark_is_found_anywhere() {
        check(b"PM3_RUN=7.1\0A=b\0", "7.1");
        check(b"A=b\0PM3_RUN=7.1\0", "7.1");
        check(b"A=PM3_RUN=8\0\0PM3_RUN=7.1", "7.1");
        check(b"PM3_RUN=1\0PM3_RUN=2\0", "1");
    }

    #[test]
    fn what_only_looks_like_it_is_none() {
        check(b"", "");
        check(b"PM3_RUN", "");
        check(b"PM3_RUN\0=7\0", "");
        check(b"XPM3_RUN=7\0PM3_RUNS=7\0PM3_PM3_RUN=7\0A=PM3_RUN=7\0", "");
        check(b"PM3_RUN=\0", "");
        check(&[b"PM3_RUN=", &[b'x'; MARK_MAX + 1][..], b"\0"].concat(), "");
        check(&[b"PM3_RUN=", &[b'x'; MARK_MAX][..], b"\0"].concat(), &"x".repeat(MARK_MAX));
    }
}
