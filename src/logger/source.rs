//! One stream of one run: its pipe, the line that has begun, and the form that its lines get. It reads when it is told
//! to, and says what is to be written; where that goes is not its affair.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::lines::{self, Line, Splitter};
use super::stamp::Stamp;
use crate::supervisor::event::{InstanceId, RunId};
use crate::supervisor::spec::LogMode;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}

/// Whose line it is.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) run: RunId,
    pub(super) id: InstanceId,
    pub(super) app: Box<str>,
    pub(super) pid: u32,
    pub(super) stream: Stream,
}

/// One stream of one run.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) whose: Whose,
    pipe: File,
    splitter: Splitter,
    /// How much of the line that has begun is written already.
    passed: usize,
    mode: LogMode,
    /// In front of each line, or of a JSON line's message.
    prefix: Vec<u8>,
    /// The sink that it goes to.
    pub(super) sink: usize,
    /// There may be something to read.
    pub(super) ready: bool,
    /// The run has ended: when the pipe is empty, a line that has begun has ended too.
    pub(super) over: bool,
}

/// What came of reading a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes.
    Some(usize),
    /// There is nothing now.
    Empty,
    /// There will be nothing any more.
    End,
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl Source {
    pub(super) fn new(whose: Whose, pipe: OwnedFd, mode: LogMode, sink: usize) -> Source {
        let prefix = match mode {
            LogMode::Json => lines::json_head(&whose.app, whose.id.0, whose.pid, whose.stream.word()),
            LogMode::Raw | LogMode::Prefix | LogMode::Inherit | LogMode::None => Vec::new(),
        };
        Source {
            whose,
            pipe: pipe.into(),
            splitter: Splitter::default(),
            passed: 0,
            mode,
            prefix,
            sink,
            ready: true,
            over: false,
        }
    }

    /// Reads what is there, as far as `chunk` has room.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> Piece {
        loop {
            match self.pipe.read(chunk) {
                Ok(0) => return Piece::End,
                Ok(count) => return Piece::Some(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Piece::Empty,
                Err(_) => return Piece::End,
            }
        }
    }

    /// Makes its prefix, if it has one, this wide.
    pub(super) fn align(&mut self, width: usize) {
        if self.mode == LogMode::Prefix {
            self.prefix = format!("{:<width$} | ", self.name()).into_bytes();
        }
    }

    /// Its name in a prefix.
    pub(super) fn name(&self) -> String {
        format!("{}|{}", self.whose.id, self.whose.app)
    }

    /// Appends to `out` what is to be written of these bytes. `alone`: nobody else writes to the same place, so what is to
    /// be passed on as it is need not wait for the end of its line.
    pub(super) fn form(&mut self, chunk: &[u8], alone: bool, time: &Stamp, out: &mut Vec<u8>) {
        let Source { splitter, passed, mode, prefix, .. } = self;
        if *mode == LogMode::Raw && alone {
            out.extend_from_slice(splitter.begun().get(*passed..).unwrap_or_default());
            out.extend_from_slice(chunk);
            splitter.feed(chunk, &mut |_| {});
            *passed = splitter.begun().len();
            return;
        }
        splitter.feed(chunk, &mut |line| write(out, *mode, prefix, time, line, passed));
    }

    /// As `form`, of the line that nobody will end. What was passed on as it is stays so.
    pub(super) fn form_end(&mut self, time: &Stamp, out: &mut Vec<u8>) {
        let Source { splitter, passed, mode, prefix, .. } = self;
        if *passed > 0 && *passed == splitter.begun().len() {
            *splitter = Splitter::default();
            *passed = 0;
        }
        splitter.end(&mut |line| write(out, *mode, prefix, time, line, passed));
    }
}

fn write(out: &mut Vec<u8>, mode: LogMode, prefix: &[u8], time: &Stamp, line: Line<'_>, passed: &mut usize) {
    match mode {
        LogMode::Raw | LogMode::Inherit | LogMode::None => {
            let new = line.bytes.get(std::mem::take(passed)..).unwrap_or_default();
            out.extend_from_slice(new);
            // What is too long for a line goes on as it was.
            if !line.is_cut {
                out.push(b'\n');
            }
        }
        LogMode::Prefix => lines::plain(out, prefix, b"", line),
        LogMode::Json => lines::json(out, time.iso().as_bytes(), prefix, line),
    }
}
