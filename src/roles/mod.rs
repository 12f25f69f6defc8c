//! The roles, and what all have in common: their end of their line to init. A role is a helper process that init starts
//! from its own program: it does what init must not, and may die at any time. Each has its own loop around this, and
//! knows nothing of the others.
//!
//! The line is a socket that the role finds as its standard input. Init tells what it has to tell
//! ([`Tell`](crate::control::role::Tell)), descriptors included; the role may ask what any client may
//! ([`Request`]), with the right that init has fixed for it, one question at a time. The line's end is init's end.
//! A role ignores the signals that everybody gets: init ends it.
//!
//! `probe` is none of these: it looks at an app once and ends, without a line, and has what it has to do in its words.

pub mod logger;
pub mod probe;
pub mod watcher;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::control::Request;
use crate::control::codec::{self, Reader};
use crate::control::role::Heard;
use crate::sys::{again, socket};

/// What has come from init.
#[derive(Debug)]
pub enum News {
    Heard(Heard),
    /// Nothing more for now; there will be an event.
    Pause,
    /// Init is gone.
    End,
}

/// The line to init. It does not block; to be registered as readable, and heard until [`News::Pause`].
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    reader: Reader<Heard>,
    fds: VecDeque<OwnedFd>,
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Line {
    /// The line of this process, which other processes see under `name` (at most 15 bytes).
    ///
    /// # Errors
    /// A text that says so, where standard input is no socket: somebody has typed the role's word.
    pub fn take(name: &CStr) -> Result<Line, String> {
        let stream =
            socket::stdin().map_err(|_| "this is a part of pm3 that `pm3 init` starts by itself".to_owned())?;
        again::take_name(name);
        Ok(Line { stream, reader: Reader::of_roles(), fds: VecDeque::new() })
    }

    /// What has come next.
    ///
    /// # Errors
    /// What came is not of the protocol, or the socket is broken: there is nothing to do but to end, and init starts
    /// another.
    pub fn hear(&mut self) -> io::Result<News> {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.reader.next() {
                Ok(Some(heard)) => return Ok(News::Heard(heard)),
                Ok(None) => {}
                Err(malformed) => return Err(io::Error::other(malformed.to_string())),
            }
            let most = chunk.len().min(self.reader.room());
            let mut fds = Vec::new();
            match socket::receive(&self.stream, chunk.get_mut(..most).unwrap_or_default(), &mut fds) {
                Ok(0) => return Ok(News::End),
                Ok(count) => self.reader.push(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(News::Pause),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(News::End),
                Err(error) => return Err(error),
            }
            self.fds.extend(fds);
        }
    }

    /// The next of the descriptors that came; each line says by its kind how many are its own.
    pub fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Asks. The reply comes as [`Heard::Replied`]; only then may the next be asked.
    ///
    /// # Errors
    /// Init is gone, or the request is too long.
    pub fn ask(&mut self, request: &Request) -> io::Result<()> {
        let line = codec::request_line(request).map_err(|malformed| io::Error::other(malformed.to_string()))?;
        // One question fits into an empty socket's buffer.
        let sent = socket::send(&self.stream, &line, &[])?;
        if sent == line.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}
