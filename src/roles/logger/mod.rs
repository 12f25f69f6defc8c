//! The logger: a role that moves what apps write to where it is to go. It is its own process, so that init never touches
//! output and never waits for a place that does not take it. Init makes the pipes and keeps them; this is told of each
//! run's, reads them, and writes their lines in the form that the app wants.
//!
//! It may be killed at any time. Another one is told the same, and what was in the pipes is still there: at most what
//! this one had read and not written is lost. It holds no right to change anything.
//!
//! `lines` and `source` turn bytes into what is written; `pass` spares them that where it can, and `keep` sees with a
//! `journal` that nothing is lost where an app wants that. `sink` writes it, and `places` are all of those; `rotate` knows
//! when a file is full and what its old ones are called, `turn` puts it away and `press` compresses it; `ring` remembers
//! recent lines, `reader` is somebody who reads `pm3 logs`, `desk` holds both, and `serve` does what is asked. Here is the
//! loop around them. A stream is read only when its place has room, in turn with the others, a piece each; so no app is
//! ahead of the others for long, and what is held is bounded.

mod desk;
mod flood;
#[cfg(test)]
mod fuzz;
mod gzip;
mod journal;
mod keep;
mod lines;
mod loss;
mod pass;
mod places;
mod press;
mod reader;
mod ring;
mod rotate;
mod search;
mod serve;
mod sink;
mod source;
mod stamp;
mod turn;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{error, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::control::Request;
use crate::control::logs::Stream;
use crate::control::role::{Heard, Known, LogFile, Targets, Tell};
use crate::roles::{Line, News};
use crate::supervisor::event::{Failure, InstanceId, Mono, RunId};
use crate::supervisor::spec::LogMode;
use crate::sys::fds::Glass;
use crate::sys::spawn::ids::{self, Ids};
use crate::sys::{clock, own_lines, why};
use desk::Desk;
use keep::Keeper;
use places::Places;
use press::{Job, Press};
use source::{Bounds, CHUNK, Piece, Source, Style, Whose};
use stamp::Stamp;

const LINE: Token = Token(0);
const PRESS: Token = Token(usize::MAX);
/// Sinks are numbered from here, sources and readers from there.
const SINKS: usize = 1;
const SOURCES: usize = 1 << 32;
const READERS: usize = 1 << 48;

const EVENTS_MAX: usize = 256;

/// Descriptors that compressing takes: the old file, the new one, the word of who does it.
const PRESS_FDS: usize = 3;

/// Init is told this often that there is still something to do at the end. It waits several times as long.
const TELLS_EVERY: Duration = Duration::from_millis(250);

/// Runs that init is told of at once: they fit into a line.
const READY_MAX: usize = 256;

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
            let text = error.raw_os_error().map_or_else(|| error.to_string().into(), why);
            error!("logger: {text}");
            1
        }
    }
}

/// As of [`Tell::Leave`].
struct Leaves {
    path: Box<str>,
    text: Box<str>,
    id: InstanceId,
}

struct Logger {
    line: Line,
    poll: Poll,
    places: Places,
    sources: BTreeMap<usize, Source>,
    desk: Desk,
    /// The old file that is being compressed.
    press: Option<Press>,
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
    /// What to leave where when all has come: something has failed.
    leaves: Option<Leaves>,
    /// It cannot go on: another one shall, once what was read is written.
    failed: Option<io::Error>,
    chunk: Vec<u8>,
    formed: Vec<u8>,
    /// For those who have a text that makes them ready; there is none before the first of them.
    glass: Option<Glass>,
    /// For those of whose output nothing may be lost.
    keeper: Option<Keeper>,
}

impl Logger {
    fn new(line: Line) -> io::Result<Logger> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&line.as_raw_fd()), LINE, Interest::READABLE)?;
        let color = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Ok(Logger {
            places: Places::new(poll.registry(), SINKS),
            line,
            poll,
            sources: BTreeMap::new(),
            desk: Desk::new(READERS),
            press: None,
            next_source: SOURCES,
            turn: 0,
            style: Style { usual: LogMode::Raw, width: 0, color },
            finishing: None,
            asked: false,
            orphaned: false,
            leaves: None,
            failed: None,
            chunk: vec![0; CHUNK],
            formed: Vec::new(),
            glass: None,
            keeper: None,
        })
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
                gets_on |= ![LINE, PRESS].contains(&event.token());
                match event.token() {
                    LINE => {
                        if let Err(error) = self.hear() {
                            self.fail(error, now);
                        }
                    }
                    PRESS => self.press_goes_on(),
                    Token(token) if token >= READERS => self.desk.ready(token, self.poll.registry()),
                    Token(token) if token >= SOURCES => {
                        if let Some(source) = self.sources.get_mut(&token) {
                            source.ready = true;
                        }
                    }
                    Token(token) => self.places.go_on(token - SINKS, now),
                }
            }
            self.places.go_on_with_due(now);
            self.desk.tell_of_floods(now);
            self.move_output(now);
            self.tell_who_is_ready();
            self.tend();
            self.places.tidy(|file| self.desk.names(file));
            let sources = &self.sources;
            let is_empty = |id| !sources.values().any(|source| source.whose.id == id && source.ready);
            self.desk.dismiss(self.poll.registry(), is_empty);
            self.desk.go_on(self.poll.registry());
            if gets_on {
                self.tell_that_it_gets_on(now);
            }
            let is_alone = (self.orphaned || self.failed.is_some()) && self.sources.is_empty();
            if (self.finishing.is_some() || is_alone) && !self.has_work() && self.places.are_done() {
                self.places.give_up();
                self.desk.tell_sums();
                self.leave();
                if let Some(press) = self.press.take() {
                    press.give_up();
                }
                if let Some(error) = self.failed.take() {
                    return Err(error);
                }
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

    /// Tells init which runs have written the text that makes them ready; from then on they are read as all others.
    fn tell_who_is_ready(&mut self) {
        if self.asked {
            return;
        }
        let found = self.sources.values().filter(|source| source.has_found());
        let runs: Vec<RunId> = found.map(|source| source.whose.run).take(READY_MAX).collect();
        if runs.is_empty() {
            return;
        }
        // Where it cannot be asked, init is gone.
        self.asked = self.line.ask(&Request::Ready { runs: runs.clone() }).is_ok();
        self.look_no_more(|source| runs.contains(&source.whose.run));
    }

    fn look_no_more(&mut self, which: impl Fn(&Source) -> bool) {
        self.sources.values_mut().filter(|source| which(source)).for_each(Source::look_no_more);
    }

    /// How long nothing will happen by itself.
    fn patience(&self) -> Option<Duration> {
        if self.has_work() || self.places.have_chores() {
            return Some(Duration::ZERO);
        }
        let deadline = [self.places.deadline(), self.desk.deadline()].into_iter().flatten().min()?;
        Some(deadline.since(clock::now()))
    }

    /// Some stream may have something, and its place room for it.
    fn has_work(&self) -> bool {
        let waits = self.keeper.as_ref().is_some_and(|keeper| keeper.waits);
        !waits && self.sources.values().any(|source| source.may_be_read() && self.has_room(source))
    }

    fn has_room(&self, source: &Source) -> bool {
        self.places.have_room(source.sinks(), source.bounds.waits)
    }

    /// Descriptors that are in use for something else than files.
    fn descriptors(&self) -> usize {
        self.sources.len() + self.desk.readers() + if self.press.is_some() { PRESS_FDS } else { 0 }
    }

    /// Sees to old files.
    fn tend(&mut self) {
        let Some(job) = self.places.tend(self.press.as_ref().map(|press| &press.job)) else { return };
        self.places.make_room(self.descriptors() + PRESS_FDS);
        match self.start_press(&job) {
            Ok(press) => self.press = Some(press),
            Err(error) => self.places.has_pressed(&job, Err(error)),
        }
    }

    fn start_press(&self, job: &Job) -> io::Result<Press> {
        let press = Press::start(job.clone())?;
        let watched = self.poll.registry().register(&mut SourceFd(&press.as_raw_fd()), PRESS, Interest::READABLE);
        if watched.is_err() {
            press.give_up();
        }
        watched.map(|()| press)
    }

    fn press_goes_on(&mut self) {
        let Some(press) = &mut self.press else { return };
        let Some(done) = press.go_on() else { return };
        let _ = self.poll.registry().deregister(&mut SourceFd(&press.as_raw_fd()));
        self.places.has_pressed(&press.job, done);
        self.press = None;
    }

    fn hear(&mut self) -> io::Result<()> {
        loop {
            match self.line.hear()? {
                News::Pause => return Ok(()),
                News::End => {
                    self.orphaned = true;
                    self.go_on_from_journal(clock::now());
                    self.look_no_more(|_| true);
                    return self.poll.registry().deregister(&mut SourceFd(&self.line.as_raw_fd()));
                }
                News::Heard(Heard::Told(tell)) => self.told(tell)?,
                // It asks for nothing but to be heard.
                News::Heard(Heard::Replied(_)) => self.asked = false,
            }
        }
    }

    /// It cannot be told any more what to do, or cannot do it. What it has read is written, the lines that have begun as they
    /// are; what is in the pipes is for the next logger, which init starts.
    fn fail(&mut self, error: io::Error, now: Mono) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&self.line.as_raw_fd()));
        for token in self.sources.keys().copied().collect::<Vec<_>>() {
            self.end_line(token, now);
            self.close(token);
        }
        self.failed = Some(error);
    }

    fn told(&mut self, tell: Tell) -> io::Result<()> {
        match tell {
            Tell::Journal => {
                let [notes, taken, into] = [(); 3].map(|()| self.line.next_fd());
                let missing = || io::Error::other("the journal came without its descriptors");
                let (notes, taken) = (notes.ok_or_else(missing)?, taken.ok_or_else(missing)?);
                self.keeper = Some(Keeper::new(notes, taken, into.ok_or_else(missing)?)?);
            }
            Tell::Briefed => self.go_on_from_journal(clock::now()),
            Tell::Usual { mode } => {
                self.style.usual = mode;
                self.shape();
            }
            Tell::Know(known) => self.desk.know(*known),
            Tell::Forget { id } => self.desk.forget(id),
            Tell::Open { run, id, pid, ready } => self.open(run, id, pid, ready.as_deref())?,
            Tell::Enough { run } => self.look_no_more(|source| source.whose.run == run),
            Tell::Over { run } => self.over(|source| source.whose.run == run),
            Tell::Serve(served) => self.serve(*served),
            Tell::Leave { path, text, id } => {
                self.catch_up(&Targets { ids: id.into_iter().collect(), ..Targets::default() });
                self.leaves = id.map(|id| Leaves { path, text, id });
                self.leave();
            }
            // For another role.
            Tell::Watch { .. } => {}
            Tell::Finish => {
                self.finishing = Some(clock::now());
                self.over(|_| true);
                self.places.hurry(clock::now());
            }
        }
        Ok(())
    }

    fn open(&mut self, run: RunId, id: InstanceId, pid: u32, ready: Option<&str>) -> io::Result<()> {
        let (out, err) = (self.line.next_fd(), self.line.next_fd());
        let (Some(out), Some(err), Some(known)) = (out, err, self.desk.known(id).cloned()) else {
            warn!("logger: the pipes of pid {pid} came without its name");
            return Ok(());
        };
        let Known { app, mode, date, rotate, .. } = &known;
        if ready.is_some() && self.glass.is_none() {
            self.glass = Some(Glass::new()?);
        }
        for (pipe, stream) in [(out, Stream::Out), (err, Stream::Err)] {
            let file = known.file(stream);
            let whose = Whose { run, id, app: app.clone(), pid, stream };
            // Into a file of its own goes what it writes, unless it wants something else.
            let mode = if *mode == LogMode::Auto && file.is_some() { LogMode::Raw } else { *mode };
            let token = Token(self.next_source);
            self.poll.registry().register(&mut SourceFd(&pipe.as_raw_fd()), token, Interest::READABLE)?;
            // This pipe and the other are not among them yet.
            let sink = self.places.join(file, stream, rotate.as_deref(), self.descriptors() + 2);
            let mut source = Source::new(whose, pipe, mode, date.clone(), sink);
            let beside = known.beside(stream);
            source.also_to(
                beside.map(|file| self.places.join(Some(file), stream, rotate.as_deref(), self.descriptors() + 2)),
            );
            ready.into_iter().for_each(|text| source.look_for(text));
            source.bounds = Bounds::of(&known);
            self.make_room_to_keep(&source);
            source.sinks().filter(|_| source.bounds.waits).for_each(|sink| self.places.is_waited_for(sink));
            self.sources.insert(self.next_source, source);
            self.next_source += 1;
        }
        self.places.make_room(self.descriptors());
        self.shape();
        Ok(())
    }

    fn over(&mut self, which: impl Fn(&Source) -> bool) {
        for source in self.sources.values_mut().filter(|source| which(source)) {
            // Read once more, to see that there is nothing.
            (source.ready, source.over) = (true, true);
            source.look_no_more();
        }
    }

    /// Gives all lines their form, and all prefixes the same width.
    fn shape(&mut self) {
        self.style.width = self.sources.values().map(|source| source.name().chars().count()).max().unwrap_or(0);
        for source in self.sources.values_mut() {
            source.shape(self.style, source.sinks().all(|sink| self.places.is_terminal(sink)));
        }
    }

    /// Moves a piece of each stream that has something.
    fn move_output(&mut self, now: Mono) {
        if !self.has_work() {
            return;
        }
        let ready = self.sources.iter().filter(|(_, source)| source.may_be_read());
        let all: Vec<_> = ready.map(|(token, source)| (*token, (source.whose.id, source.whose.stream))).collect();
        for token in &in_turn(&all, self.turn) {
            if self.move_piece(*token, now) {
                self.turn = *token;
            }
        }
    }

    /// True if something was moved.
    fn move_piece(&mut self, token: usize, now: Mono) -> bool {
        let Some(source) = self.sources.get_mut(&token) else { return false };
        if !self.places.have_room(source.sinks(), source.bounds.waits) {
            return false;
        }
        self.settle(token);
        if self.pass_on(token, now) {
            return true;
        }
        if let Some(moved) = self.keep_piece(token, now) {
            return moved;
        }
        let Some(source) = self.sources.get_mut(&token) else { return false };
        self.formed.clear();
        let piece = source.read(&mut self.chunk, self.glass.as_ref());
        let (time, out) = (Stamp::now(), &mut self.formed);
        let Whose { id, app, stream, .. } = &source.whose;
        let mut seen = self.desk.take(app, *id, *stream, time.unix_ms, now);
        match piece {
            Piece::Some(count) => {
                let chunk = self.chunk.get(..count).unwrap_or_default();
                let alone = source.sinks().all(|sink| self.places.users(sink) == 1);
                source.form_some(chunk, alone, &time, out, &mut seen);
            }
            Piece::Empty => {
                source.ready = false;
                if std::mem::take(&mut source.over) {
                    source.form_end(&time, out, &mut seen);
                }
            }
            Piece::End => source.form_end(&time, out, &mut seen),
            Piece::Found => {}
        }
        drop(seen);
        let (sinks, others) = (source.sinks(), self.descriptors());
        for sink in sinks {
            self.places.take(sink, token, &self.formed, now, others);
        }
        if piece == Piece::End {
            self.close(token);
        }
        true
    }

    /// Writes what was read and is not written yet, with a line that has begun.
    fn end_line(&mut self, token: usize, now: Mono) {
        let others = self.descriptors();
        let Some(source) = self.sources.get_mut(&token) else { return };
        let (time, mut formed) = (Stamp::now(), Vec::new());
        let Whose { id, app, stream, .. } = &source.whose;
        let mut judge = self.desk.take(app, *id, *stream, time.unix_ms, now);
        let held = source.take_held();
        source.form(&held, false, &time, &mut formed, &mut judge);
        source.form_end(&time, &mut formed, &mut judge);
        drop(judge);
        for sink in source.sinks() {
            self.places.take(sink, token, &formed, now, others);
        }
    }

    fn close(&mut self, token: usize) {
        self.settle(token);
        let Some(source) = self.sources.remove(&token) else { return };
        self.leave_journal(&source);
        let _ = self.poll.registry().deregister(&mut SourceFd(&source.as_raw_fd()));
        source.sinks().for_each(|sink| self.places.leave(sink, source.bounds.waits));
    }
}

/// As whom a file is opened.
fn resolved(file: &LogFile) -> Result<Ids, Failure> {
    ids::resolve(file.user.as_deref(), file.group.as_deref())
}

/// In which order sources that are ready have their turn, given with whose stream they are, by token. Who had its turn last
/// time comes last: where there is room for one alone, all get it in turn. But what an earlier run has written comes before
/// what the next one of the same place writes.
fn in_turn<W: PartialEq>(ready: &[(usize, W)], last: usize) -> Vec<usize> {
    let (before, after) = ready.split_at(ready.partition_point(|(token, _)| *token <= last));
    let mut order = Vec::with_capacity(ready.len());
    for (token, whose) in after.iter().chain(before) {
        let earlier = before.iter().filter(|(other, of)| other < token && of == whose).map(|(other, _)| *other);
        for next in earlier.chain([*token]) {
            if !order.contains(&next) {
                order.push(next);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::in_turn;

    #[test]
    fn all_have_their_turn_and_an_earlier_run_comes_before_the_next() {
        let ready = [(3, 'a'), (4, 'b'), (7, 'a'), (9, 'c')];
        assert_eq!(in_turn(&ready, 0), [3, 4, 7, 9]);
        assert_eq!(in_turn(&ready, 4), [3, 7, 9, 4]);
        assert_eq!(in_turn(&ready, 7), [9, 3, 4, 7]);
        assert_eq!(in_turn(&ready, 9), [3, 4, 7, 9]);
        assert!(in_turn::<char>(&[], 5).is_empty());
    }
}
