//! The logger: a role that moves what apps write to where it is to go. It is its own process, so that init never touches
//! output and never waits for a place that does not take it. Init makes the pipes and keeps them; this is told of each
//! run's, reads them, and writes their lines in the form that the app wants.
//!
//! It may be killed at any time. Another one is told the same, and what was in the pipes is still there: at most what
//! this one had read and not written is lost. It holds no right to change anything.
//!
//! `lines` and `source` turn bytes into what is written, `sink` writes it; here is the loop around them. A stream is read
//! only when its place has room, in turn with the others, a piece each; so no app is ahead of the others for long, and
//! what is held is bounded.

mod lines;
mod sink;
mod source;
mod stamp;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{error, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::control::role::{Heard, Opened, Tell};
use crate::own_lines;
use crate::role::{Line, News};
use crate::supervisor::event::Mono;
use crate::sys::clock;
use crate::sys::spawn::ids;
use sink::Sink;
use source::{Piece, Source, Stream, Whose};
use stamp::Stamp;

const LINE: Token = Token(0);
/// Sinks are numbered from here, and sources from there.
const SINKS: usize = 1;
const SOURCES: usize = 1 << 32;

const STDOUT: usize = 0;
const STDERR: usize = 1;

/// Bytes read from a stream before it is the next one's turn: what a pipe holds.
const CHUNK: usize = 64 << 10;

const EVENTS_MAX: usize = 256;

/// The exit code of a role that was started by hand (sysexits.h: EX_USAGE).
const NOT_BY_HAND: u8 = 64;

/// Does the logger's work until init ends it. Returns the exit code.
pub fn main() -> u8 {
    own_lines::start();
    let line = match Line::take(c"pm3-logger") {
        Ok(line) => line,
        Err(why) => {
            error!("logger: {why}");
            return NOT_BY_HAND;
        }
    };
    match Logger::new(line).and_then(Logger::run) {
        Ok(()) => 0,
        Err(error) => {
            error!("logger: {error}");
            1
        }
    }
}

struct Logger {
    line: Line,
    poll: Poll,
    sinks: BTreeMap<usize, Sink>,
    sources: BTreeMap<usize, Source>,
    next_sink: usize,
    next_source: usize,
    /// The token of the source that was read last.
    turn: usize,
    /// Init has told it to finish.
    finishing: bool,
    /// Init is gone. Apps may write on, and must not be killed by it.
    orphaned: bool,
    chunk: Vec<u8>,
    formed: Vec<u8>,
}

impl Logger {
    fn new(line: Line) -> io::Result<Logger> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&line.as_raw_fd()), LINE, Interest::READABLE)?;
        let mut logger = Logger {
            line,
            poll,
            sinks: BTreeMap::new(),
            sources: BTreeMap::new(),
            next_sink: 0,
            next_source: SOURCES,
            turn: 0,
            finishing: false,
            orphaned: false,
            chunk: vec![0; CHUNK],
            formed: Vec::new(),
        };
        logger.add_sink(Sink::stdout());
        logger.add_sink(Sink::stderr());
        Ok(logger)
    }

    fn run(mut self) -> io::Result<()> {
        let mut ready = Events::with_capacity(EVENTS_MAX);
        loop {
            if let Err(error) = self.poll.poll(&mut ready, self.patience())
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let now = clock::now();
            for event in &ready {
                match event.token() {
                    LINE => self.hear()?,
                    Token(token) if token >= SOURCES => {
                        if let Some(source) = self.sources.get_mut(&token) {
                            source.ready = true;
                        }
                    }
                    Token(token) => {
                        if let Some(sink) = self.sinks.get_mut(&(token - SINKS)) {
                            sink.go_on(now);
                        }
                    }
                }
            }
            for sink in self.sinks.values_mut().filter(|sink| sink.deadline().is_some_and(|at| at <= now)) {
                sink.go_on(now);
            }
            self.move_output(now);
            let ends = self.finishing || self.orphaned && self.sources.is_empty();
            if ends && !self.has_work() && self.sinks.values().all(Sink::has_room) {
                self.sinks.values_mut().for_each(Sink::give_up);
                return Ok(());
            }
        }
    }

    /// How long nothing will happen by itself.
    fn patience(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        Some(self.sinks.values().filter_map(Sink::deadline).min()?.since(clock::now()))
    }

    /// Some stream may have something, and its place room for it.
    fn has_work(&self) -> bool {
        self.sources.values().any(|source| source.ready && self.has_room(source.sink))
    }

    fn has_room(&self, sink: usize) -> bool {
        self.sinks.get(&sink).is_none_or(Sink::has_room)
    }

    fn hear(&mut self) -> io::Result<()> {
        loop {
            match self.line.hear()? {
                News::Pause => return Ok(()),
                News::End => {
                    self.orphaned = true;
                    return self.poll.registry().deregister(&mut SourceFd(&self.line.as_raw_fd()));
                }
                News::Heard(Heard::Told(tell)) => match tell {
                    Tell::Open(opened) => self.open(*opened),
                    Tell::Over { run } => self.over(|source| source.whose.run == run),
                    // For another role.
                    Tell::Watch { .. } => {}
                    Tell::Finish => {
                        self.finishing = true;
                        self.over(|_| true);
                    }
                },
                // It never asks.
                News::Heard(Heard::Replied(_)) => {}
            }
        }
    }

    fn open(&mut self, opened: Opened) {
        let (Some(out), Some(err)) = (self.line.next_fd(), self.line.next_fd()) else {
            warn!("logger: {}: its pipes did not come with their names", opened.app);
            return;
        };
        for (pipe, stream) in [(out, Stream::Out), (err, Stream::Err)] {
            let Opened { run, id, pid, mode, .. } = opened;
            let whose = Whose { run, id, app: opened.app.clone(), pid, stream };
            let sink = self.sink_for(&opened, stream);
            let source = Source::new(whose, pipe, mode, sink);
            let token = self.next_source;
            let watched =
                self.poll.registry().register(&mut SourceFd(&source.as_raw_fd()), Token(token), Interest::READABLE);
            if let Err(error) = watched {
                warn!("logger: {}: its output cannot be watched: {error}", opened.app);
                continue;
            }
            self.next_source += 1;
            if let Some(sink) = self.sinks.get_mut(&sink) {
                sink.users += 1;
            }
            self.sources.insert(token, source);
        }
        self.align();
    }

    fn over(&mut self, which: impl Fn(&Source) -> bool) {
        for source in self.sources.values_mut().filter(|source| which(source)) {
            // Read once more, to see that there is nothing.
            (source.ready, source.over) = (true, true);
        }
    }

    /// The sink for a stream, which may have others already.
    fn sink_for(&mut self, opened: &Opened, stream: Stream) -> usize {
        let (path, own) = match stream {
            Stream::Out => (&opened.output.out, STDOUT),
            Stream::Err => (&opened.output.err, STDERR),
        };
        let Some(path) = path else { return own };
        if let Some((token, _)) = self.sinks.iter().skip(2).find(|(_, sink)| sink.name == *path) {
            return *token;
        }
        match ids::resolve(opened.user.as_deref(), opened.group.as_deref()) {
            Ok(ids) => self.add_sink(Sink::file(path, ids)),
            Err(failure) => {
                warn!("logger: {}: {failure}", opened.app);
                own
            }
        }
    }

    fn add_sink(&mut self, sink: Sink) -> usize {
        let token = self.next_sink;
        if let Some(fd) = sink.fd() {
            // What cannot be watched always has room: files.
            let _ = self.poll.registry().register(&mut SourceFd(&fd), Token(SINKS + token), Interest::WRITABLE);
        }
        self.sinks.insert(token, sink);
        self.next_sink += 1;
        token
    }

    /// Gives every prefix the same width.
    fn align(&mut self) {
        let width = self.sources.values().map(|source| source.name().chars().count()).max().unwrap_or(0);
        self.sources.values_mut().for_each(|source| source.align(width));
    }

    /// Moves a piece of each stream that has something.
    fn move_output(&mut self, now: Mono) {
        let ready = |(_, source): &(&usize, &Source)| source.ready;
        let all: Vec<usize> = self.sources.iter().filter(ready).map(|(token, _)| *token).collect();
        // Who had its turn last time comes last: where there is room for one alone, all get it in turn.
        let (before, after) = all.split_at(all.partition_point(|token| *token <= self.turn));
        for token in after.iter().chain(before) {
            if self.move_piece(*token, now) {
                self.turn = *token;
            }
        }
    }

    /// True if something was moved.
    fn move_piece(&mut self, token: usize, now: Mono) -> bool {
        let Some(source) = self.sources.get_mut(&token) else { return false };
        let Some(sink) = self.sinks.get_mut(&source.sink) else { return false };
        if !sink.has_room() {
            return false;
        }
        self.formed.clear();
        let piece = source.read(&mut self.chunk);
        let time = Stamp::now();
        match piece {
            Piece::Some(count) => {
                let chunk = self.chunk.get(..count).unwrap_or_default();
                source.form(chunk, sink.users == 1, &time, &mut self.formed);
            }
            Piece::Empty => {
                source.ready = false;
                if std::mem::take(&mut source.over) {
                    source.form_end(&time, &mut self.formed);
                }
            }
            Piece::End => source.form_end(&time, &mut self.formed),
        }
        sink.take(token, &self.formed, now);
        if piece == Piece::End {
            self.close(token);
        }
        true
    }

    fn close(&mut self, token: usize) {
        let Some(source) = self.sources.remove(&token) else { return };
        let _ = self.poll.registry().deregister(&mut SourceFd(&source.as_raw_fd()));
        if let Some(sink) = self.sinks.get_mut(&source.sink) {
            sink.users -= 1;
            if sink.users == 0 && source.sink > STDERR {
                self.sinks.remove(&source.sink);
            }
        }
    }
}
