//! Somebody who reads `pm3 logs`: a connection that init has handed over, what it wants to see, and what it has not taken
//! yet. A reader that is slower than the apps loses lines, which are counted; it never holds anybody up.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::control::codec;
use crate::control::logs::{Event, Line, Query, Stream};
use crate::control::role::Targets;
use crate::control::{Refusal, Reply};
use crate::supervisor::event::{InstanceId, Outcome};
use crate::sys::socket;

/// Bytes that a reader may be behind. Some thousand lines: a terminal that is busy for a moment.
const BEHIND_MAX: usize = 256 << 10;

/// Bytes that a reader may say at once, to be thrown away: a person's stray lines.
const TALK_MAX: usize = 4 << 10;

/// Somebody who reads.
#[derive(Debug)]
pub(super) struct Reader {
    stream: UnixStream,
    /// Whose it is; None: that cannot be told.
    pub(super) uid: Option<u32>,
    pub(super) query: Query,
    pub(super) of: Targets,
    /// Lines that wait; the first has been sent up to `sent`.
    waiting: VecDeque<Vec<u8>>,
    behind: usize,
    sent: usize,
    missed: u64,
    /// All is said: when it is sent, the connection is closed.
    leaving: bool,
}

impl AsRawFd for Reader {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Reader {
    pub(super) fn new(connection: OwnedFd, query: Query, of: Targets) -> Reader {
        let stream = UnixStream::from(connection);
        let (waiting, behind, sent, missed) = (VecDeque::new(), 0, 0, 0);
        let uid = socket::peer(&stream).ok().map(|peer| peer.uid);
        Reader { stream, uid, query, of, waiting, behind, sent, missed, leaving: false }
    }

    /// Bytes that it has not taken yet.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// Whether it wants to see such a line.
    pub(super) fn wants(&self, app: &str, id: u32, stream: Stream, time_ms: u64) -> bool {
        self.query.stream.is_none_or(|only| only == stream)
            && time_ms >= self.query.since_ms
            && self.of.has(app, InstanceId(id))
    }

    /// Shows a line that is new, or counts it, if the reader is too far behind.
    pub(super) fn show(&mut self, line: &dyn Fn() -> Line) {
        if self.leaving {
            return;
        }
        if self.behind >= BEHIND_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            let lines = std::mem::take(&mut self.missed);
            self.tell(&Event::Missed { lines });
        }
        self.tell(&Event::Line(line()));
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.say(&Reply::Log(event.clone()));
    }

    /// Says the last thing.
    pub(super) fn leave(&mut self, outcome: Outcome) {
        if !self.leaving {
            if self.missed > 0 {
                let lines = std::mem::take(&mut self.missed);
                self.tell(&Event::Missed { lines });
            }
            self.say(&Reply::Outcome(outcome));
            self.leaving = true;
        }
    }

    /// Says why nothing comes, and nothing else.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.say(&Reply::Error(refusal));
        self.leaving = true;
    }

    fn say(&mut self, reply: &Reply) {
        let line = codec::reply_line(reply);
        self.behind += line.len();
        self.waiting.push_back(line);
    }

    /// Sends what is taken. False: the connection is over.
    pub(super) fn go_on(&mut self) -> bool {
        while let Some(line) = self.waiting.front() {
            match socket::send(&self.stream, line.get(self.sent..).unwrap_or_default(), &[]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.sent >= line.len() {
                self.behind = self.behind.saturating_sub(line.len());
                self.sent = 0;
                self.waiting.pop_front();
            }
        }
        if self.missed > 0 {
            let lines = std::mem::take(&mut self.missed);
            self.tell(&Event::Missed { lines });
            return self.go_on();
        }
        self.waiting.shrink_to(64);
        !self.leaving
    }

    /// Whether the other end is still there. It has nothing to say; who does not stop talking is not listened to any
    /// longer, as all others would have to wait.
    pub(super) fn is_there(&mut self) -> bool {
        let mut bytes = [0; 256];
        for _ in 0..TALK_MAX / bytes.len() {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Waits for nobody.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }
}
