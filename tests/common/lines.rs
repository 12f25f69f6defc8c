//! Lines from a pipe or a terminal, each awaited for a bounded time.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PATIENCE;

/// A stream of lines and the memory of those that were taken, for the panic message.
pub struct Lines {
    name: &'static str,
    file: File,
    unread: Vec<u8>,
    ended: bool,
    pub taken: Vec<String>,
}

impl Lines {
    /// Reads from `fd`; panics speak of `name`.
    pub fn new(name: &'static str, fd: impl Into<OwnedFd>) -> Lines {
        Lines { name, file: File::from(fd.into()), unread: Vec::new(), ended: false, taken: Vec::new() }
    }

    /// The next line without its end; None once everybody has closed the other side.
    pub fn next(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                self.taken.push(line.clone());
                return Some(line);
            }
            if self.ended {
                assert!(self.unread.is_empty(), "{}: half a line at its end: {:?}", self.name, self.unread);
                return None;
            }
            assert!(self.fill(deadline), "{}: no line within {PATIENCE:?}; so far: {:#?}", self.name, self.taken);
        }
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Everything up to and with the next `mark`, lines or not.
    #[track_caller]
    pub fn until(&mut self, mark: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let so_far = String::from_utf8_lossy(&self.unread);
            if let Some(at) = so_far.find(mark) {
                let found = so_far[..at + mark.len()].to_owned();
                // As many bytes: what is not UTF-8 would count for more, and nobody writes it here.
                self.unread.drain(..found.len());
                return found;
            }
            let name = self.name;
            assert!(!self.ended, "{name}: ended without {mark:?}: {so_far:?}");
            let so_far = so_far.into_owned();
            assert!(self.fill(deadline), "{name}: no {mark:?} within {PATIENCE:?}; so far: {so_far:?}");
        }
    }

    /// Everything up to the end of the stream, as it stands; its last line may lack its end.
    pub fn text(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended {
            let filled = self.fill(deadline);
            let so_far = String::from_utf8_lossy(&self.unread);
            assert!(filled, "{}: no end within {PATIENCE:?}; so far: {so_far}", self.name);
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// The next so many bytes, whatever they are, or all up to the end of the stream.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.unread.len() < count && !self.ended {
            assert!(self.fill(deadline), "{}: no more than {} bytes within {PATIENCE:?}", self.name, self.unread.len());
        }
        let left = self.unread.split_off(count.min(self.unread.len()));
        std::mem::replace(&mut self.unread, left)
    }

    /// The whole lines that are there now, without waiting.
    pub fn present(&mut self) -> Vec<String> {
        while !self.ended && self.fill(Instant::now()) {}
        let whole = self.unread.iter().filter(|byte| **byte == b'\n').count();
        (0..whole).filter_map(|_| self.next()).collect()
    }

    /// Makes a pipe as small as it can be: one page.
    pub fn shrink(&self) {
        // SAFETY: F_SETPIPE_SZ takes a number.
        assert!(unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) } > 0);
    }

    /// What is there now, without waiting.
    pub fn so_far(&mut self) -> String {
        while !self.ended && self.fill(Instant::now()) {}
        format!("{:#?} {:?}", self.taken, String::from_utf8_lossy(&self.unread))
    }

    /// Waits for bytes (or the end) until the deadline and reads them; false: nothing came.
    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap()) {
            Ok(0) => return false,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => panic!("{}: poll: {errno}", self.name),
        }
        let mut chunk = [0; 4096];
        match self.file.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.unread.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A terminal whose last user is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.ended = true,
            Err(error) => panic!("{}: read: {error}", self.name),
        }
        true
    }
}
