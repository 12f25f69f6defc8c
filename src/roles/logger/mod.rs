//! The logger: a role that moves what apps write to where it is to go. It is its own process, so that init never touches
//! output and never waits for a place that does not take it. Init makes the pipes and keeps them; this is told of each
//! run's, reads them, and writes their lines in the form that the app wants.
//!
//! It may be killed at any time. Another one is told the same, and what was in the pipes is still there: at most what
//! this one had read and not written is lost. It holds no right to change anything.
//!
//! `lines` and `source` turn bytes into what is written, `sink` writes it; `ring` remembers recent lines, `reader` is
//! somebody who reads `pm3 logs`, and `desk` holds both. Here is the loop around them. A stream is read
//! only when its place has room, in turn with the others, a piece each; so no app is ahead of the others for long, and
//! what is held is bounded.

mod desk;
mod lines;
mod reader;
mod ring;
mod sink;
mod source;
mod stamp;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use log::{error, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::control::Request;
use crate::control::logs::Stream;
use crate::control::role::{Ask, Heard, Known, LogFile, Served, Targets, Tell};
use crate::roles::{Line, News};
use crate::supervisor::event::{InstanceId, Mono, Outcome, RunId};
use crate::supervisor::spec::LogMode;
use crate::sys::spawn::ids::{self, Ids};
use crate::sys::{append, clock, errno, own_lines, why};
use desk::Desk;
use sink::Sink;
use source::{Piece, Source, Style, Whose};
use stamp::Stamp;

const LINE: Token = Token(0);
/// Sinks are numbered from here, sources and readers from there.
const SINKS: usize = 1;
const SOURCES: usize = 1 << 32;
const READERS: usize = 1 << 48;

const STDOUT: usize = 0;
const STDERR: usize = 1;

/// Bytes read from a stream before it is the next one's turn: what a pipe holds.
const CHUNK: usize = 64 << 10;

const EVENTS_MAX: usize = 256;

/// Init is told this often that there is still something to do at the end. It waits several times as long.
const TELLS_EVERY: Duration = Duration::from_millis(250);

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
    desk: Desk,
    next_sink: usize,
    next_source: usize,
    /// The token of the source that was read last.
    turn: usize,
    style: Style,
    /// Init has told it to finish, and waits for it as long as it gets on: when that was told last.
    finishing: Option<Mono>,
    /// Something was asked, and not answered yet.
    asked: bool,
    /// Init is gone. Apps may write on, and must not be killed by that.
    orphaned: bool,
    chunk: Vec<u8>,
    formed: Vec<u8>,
}

impl Logger {
    fn new(line: Line) -> io::Result<Logger> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&line.as_raw_fd()), LINE, Interest::READABLE)?;
        let color = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let mut logger = Logger {
            line,
            poll,
            sinks: BTreeMap::new(),
            sources: BTreeMap::new(),
            desk: Desk::new(READERS),
            next_sink: 0,
            next_source: SOURCES,
            turn: 0,
            style: Style { usual: LogMode::Raw, width: 0, color },
            finishing: None,
            asked: false,
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
            let mut gets_on = self.has_work();
            for event in &ready {
                gets_on |= event.token() != LINE;
                match event.token() {
                    LINE => self.hear()?,
                    Token(token) if token >= READERS => self.desk.ready(token, self.poll.registry()),
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
            let sources = &self.sources;
            let is_empty = |id| !sources.values().any(|source| source.whose.id == id && source.ready);
            self.desk.dismiss(self.poll.registry(), is_empty);
            self.desk.go_on(self.poll.registry());
            if gets_on {
                self.tell_that_it_gets_on(now);
            }
            let ends = self.finishing.is_some() || self.orphaned && self.sources.is_empty();
            if ends && !self.has_work() && self.sinks.values().all(Sink::has_room) {
                self.sinks.values_mut().for_each(Sink::give_up);
                self.desk.close();
                return Ok(());
            }
        }
    }

    /// Init ends, and waits for this: but not for ever, and not for one that is stuck.
    fn tell_that_it_gets_on(&mut self, now: Mono) {
        let Some(told) = self.finishing.filter(|told| !self.asked && told.after(TELLS_EVERY) <= now) else { return };
        self.asked = self.line.ask(&Request::Ping).is_ok();
        self.finishing = if self.asked { Some(now) } else { Some(told) };
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
                News::Heard(Heard::Told(tell)) => self.told(tell),
                // It asks for nothing but to be heard.
                News::Heard(Heard::Replied(_)) => self.asked = false,
            }
        }
    }

    fn told(&mut self, tell: Tell) {
        match tell {
            Tell::Usual { mode } => {
                self.style.usual = mode;
                self.shape();
            }
            Tell::Know(known) => self.desk.know(*known),
            Tell::Forget { id } => self.desk.forget(id),
            Tell::Open { run, id, pid } => self.open(run, id, pid),
            Tell::Over { run } => self.over(|source| source.whose.run == run),
            Tell::Serve(served) => self.serve(*served),
            // For another role.
            Tell::Watch { .. } => {}
            Tell::Finish => {
                self.finishing = Some(clock::now());
                self.over(|_| true);
            }
        }
    }

    fn open(&mut self, run: RunId, id: InstanceId, pid: u32) {
        let (out, err) = (self.line.next_fd(), self.line.next_fd());
        let (Some(out), Some(err), Some(known)) = (out, err, self.desk.known(id).cloned()) else {
            warn!("logger: the pipes of pid {pid} came without its name");
            return;
        };
        let Known { app, mode, date, .. } = &known;
        for (pipe, stream, file, own) in
            [(out, Stream::Out, &known.out, STDOUT), (err, Stream::Err, &known.err, STDERR)]
        {
            let whose = Whose { run, id, app: app.clone(), pid, stream };
            // Into a file of its own goes what it writes, unless it wants something else.
            let mode = if *mode == LogMode::Auto && file.is_some() { LogMode::Raw } else { *mode };
            let sink = file.as_ref().map_or(own, |file| self.sink_for(app, file));
            self.add_source(Source::new(whose, pipe, mode, date.clone(), sink));
        }
        self.shape();
    }

    fn add_source(&mut self, source: Source) {
        let token = Token(self.next_source);
        let watched = self.poll.registry().register(&mut SourceFd(&source.as_raw_fd()), token, Interest::READABLE);
        if let Err(error) = watched {
            warn!("logger: {}: its output cannot be watched: {error}", source.whose.app);
            return;
        }
        if let Some(sink) = self.sinks.get_mut(&source.sink) {
            sink.users += 1;
        }
        self.sources.insert(self.next_source, source);
        self.next_source += 1;
    }

    fn over(&mut self, which: impl Fn(&Source) -> bool) {
        for source in self.sources.values_mut().filter(|source| which(source)) {
            // Read once more, to see that there is nothing.
            (source.ready, source.over) = (true, true);
        }
    }

    /// The sink for a file, which may have others already.
    fn sink_for(&mut self, app: &str, file: &LogFile) -> usize {
        if let Some((token, _)) = self.sinks.range(2..).find(|(_, sink)| sink.name == file.path) {
            return *token;
        }
        let ids = ids_of(file).inspect_err(|why| warn!("logger: {app}: {why}"));
        self.add_sink(Sink::file(file, ids.ok()))
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

    /// Gives all lines their form, and all prefixes the same width.
    fn shape(&mut self) {
        self.style.width = self.sources.values().map(|source| source.name().chars().count()).max().unwrap_or(0);
        let terminals: Vec<usize> =
            self.sinks.iter().filter(|(_, sink)| sink.is_terminal()).map(|(token, _)| *token).collect();
        for source in self.sources.values_mut() {
            source.shape(self.style, terminals.contains(&source.sink));
        }
    }

    fn serve(&mut self, served: Served) {
        let Some(connection) = self.line.next_fd() else {
            warn!("logger: a client came without its connection");
            return;
        };
        let Served { ask, of } = served;
        match ask {
            Ask::Read(query) => self.desk.serve(connection, query, of, self.poll.registry()),
            Ask::Flush => Desk::answer(connection, self.flush(&of)),
            Ask::Reopen => {
                self.sinks.values_mut().for_each(Sink::reopen);
                Desk::answer(connection, Outcome { done: vec!["all".into()], ..Outcome::default() });
            }
        }
    }

    /// Empties the files of these instances, and forgets what they wrote.
    fn flush(&mut self, of: &Targets) -> Outcome {
        let mut outcome = Outcome::default();
        for known in self.desk.meant(of) {
            for file in [&known.out, &known.err].into_iter().flatten() {
                let emptied = ids_of(file).and_then(|ids| {
                    append::empty(Path::new(&*file.path), &ids).map_err(|error| why(errno::of(&error)).into_string())
                });
                if let Err(why) = emptied {
                    outcome.failed.push(format!("{}: {}: {why}", known.app, file.path).into());
                }
            }
            if !outcome.done.contains(&known.app) {
                outcome.done.push(known.app.clone());
            }
        }
        self.desk.clear(of);
        outcome
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
        let (time, out) = (Stamp::now(), &mut self.formed);
        let Whose { id, app, stream, .. } = &source.whose;
        let mut seen = self.desk.take(app, *id, *stream, time.unix_ms);
        match piece {
            Piece::Some(count) => {
                let chunk = self.chunk.get(..count).unwrap_or_default();
                source.form(chunk, sink.users == 1, &time, out, &mut seen);
            }
            Piece::Empty => {
                source.ready = false;
                if std::mem::take(&mut source.over) {
                    source.form_end(&time, out, &mut seen);
                }
            }
            Piece::End => source.form_end(&time, out, &mut seen),
        }
        drop(seen);
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

/// As whom a file is opened.
fn ids_of(file: &LogFile) -> Result<Ids, String> {
    ids::resolve(file.user.as_deref(), file.group.as_deref()).map_err(|failure| failure.to_string())
}
