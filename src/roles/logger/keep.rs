//! Output that must not be lost when this logger is killed (`lossless`): it stays in its pipe until it is written, and the
//! journal says what is being written, so that the next logger goes on at that very byte.
//!
//! Into a pipe that nobody else writes to, what needs no form is moved in one step, and there is nothing to note. Into a file,
//! nothing is lost and nothing is written twice, whatever its form. What is written to a terminal, or to a pipe in some form or beside
//! others, may be repeated from where it was noted last: no more than a piece.
//!
//! A line stays in its pipe until it has its end. One for which the pipe is too small is cut.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use log::warn;

use super::Logger;
use super::journal::{Entry, Journal, Mark, Note, Rest};
use super::source::{Piece, Source, Style, Whose};
use super::stamp::Stamp;
use crate::control::logs::Stream;
use crate::supervisor::event::Mono;
use crate::supervisor::spec::LogMode;
use crate::sys::fds::{self, Glass};

/// Pages of a pipe whose lines stay in it: so that one of the usual limit is seen as a whole, in whatever pieces it was
/// written.
const PAGES: usize = 2 * fds::PIPE_PAGES;

/// So many pipes get as much: a sixteenth of what a user may have.
const LARGE_MAX: usize = 64;

/// What is needed for that.
#[derive(Debug)]
pub(super) struct Keeper {
    journal: Rc<Journal>,
    /// What the journal's pipe has room for.
    pages: usize,
    /// With the pages of the pipes that they are for; there are few sizes.
    glasses: Vec<(usize, Glass)>,
    /// Init has not told all yet: nothing is moved until it is known what others have begun.
    pub(super) waits: bool,
}

impl Keeper {
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn new(notes: OwnedFd, taken: OwnedFd, into: OwnedFd) -> io::Result<Keeper> {
        let journal = Rc::new(Journal::new(notes, taken, into)?);
        Ok(Keeper { pages: journal.pages(), journal, glasses: Vec::new(), waits: true })
    }

    fn glass(&mut self, pipe: &Source) -> io::Result<&Glass> {
        let pages = fds::pages(pipe).min(PAGES).min(2 * self.pages);
        let at = match self.glasses.iter().position(|(own, _)| *own == pages) {
            Some(at) => at,
            None => {
                self.glasses.push((pages, Glass::before(pages)?));
                self.glasses.len() - 1
            }
        };
        self.glasses.get(at).map(|(_, glass)| glass).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Logger {
    /// Gives a stream that is to be kept a pipe with more room, where there are not too many.
    pub(super) fn make_room_to_keep(&self, source: &Source) {
        let kept = self.sources.values().filter(|source| source.bounds.lossless).count();
        if source.bounds.lossless && kept < LARGE_MAX {
            // A refusal is normal: then lines are cut that are longer than it is.
            let _ = fds::resize(source, PAGES);
        }
    }

    /// Takes what is written out of its pipe. To be called before anything else is done with the pipe.
    pub(super) fn settle(&mut self, token: usize) {
        let (Some(keeper), Some(source)) = (&self.keeper, self.sources.get_mut(&token)) else { return };
        let (Some(count), Some(place)) = (source.owed.take(), source.place) else { return };
        keeper.journal.take(place, &*source, count);
        source.sinks().for_each(|sink| self.places.note(sink, place, None));
    }

    /// A stream has ended.
    pub(super) fn leave_journal(&self, source: &Source) {
        if let (Some(keeper), Some(place)) = (&self.keeper, source.place) {
            keeper.journal.leave(place);
        }
    }

    /// Moves a piece of a stream of which nothing may be lost. None: it has to be moved as all others. True: there was one.
    pub(super) fn keep_piece(&mut self, token: usize, now: Mono) -> Option<bool> {
        let (keeper, source) = (self.keeper.as_mut()?, self.sources.get_mut(&token)?);
        if !source.bounds.lossless {
            return None;
        }
        let glass = match keeper.glass(source) {
            Ok(glass) => glass,
            // There is no descriptor for it, now.
            Err(error) => {
                warn!("logger: what {} writes can be lost: {error}", source.name());
                source.bounds.lossless = false;
                return None;
            }
        };
        let there = fds::unread(&*source);
        let piece = source.look(&mut self.chunk, self.glass.as_ref(), glass);
        let count = match piece {
            Piece::Some(count) => count,
            Piece::Empty | Piece::End => {
                source.ready = false;
                if std::mem::take(&mut source.over) || piece == Piece::End {
                    // What has begun is in the pipe, but for what was passed on as it is.
                    self.end_line(token, now);
                }
                if piece == Piece::End {
                    self.close(token);
                }
                return Some(false);
            }
            Piece::Found => return Some(true),
        };
        if let Some(moved) = self.pass_on_seen(token, count, now) {
            return Some(moved);
        }
        let source = self.sources.get(&token)?;
        let rest = if count < there {
            Rest::IsCut
        } else if source.over || fds::has_ended(source) {
            Rest::IsOver
        } else {
            Rest::Stays
        };
        let alone = source.sinks().all(|sink| self.places.users(sink) == 1);
        let time = Stamp::now();
        let (mut rest_of_it, mut taken) = (Rest::Stays, self.form_kept(token, count, alone, Rest::Stays, &time, now)?);
        if taken == 0 && rest != Rest::Stays {
            (rest_of_it, taken) = (rest, self.form_kept(token, count, alone, rest, &time, now)?);
        }
        let source = self.sources.get_mut(&token)?;
        if taken == 0 {
            // There will be an event when there is more of the line.
            source.ready = false;
            return Some(false);
        }
        let Whose { run, stream, .. } = source.whose;
        let place = *source.place.get_or_insert_with(|| keeper_of(&self.keeper).map_or(0, |journal| journal.place()));
        let formed = self.formed.len() as u64;
        let mark = Mark { left: formed, file: [0; 3] };
        let entry = Entry {
            is_taken: false,
            run: run.0,
            is_stderr: stream == Stream::Err,
            count: taken as u64,
            formed,
            time_ms: time.unix_ms,
            mode: code(self.style.usual),
            width: self.style.width as u64,
            alone,
            rest: rest_of_it,
            marks: [mark; 2],
        };
        keeper_of(&self.keeper)?.note(place, Some(entry));
        source.owed = Some(taken);
        self.write_kept(token, [0; 2], now);
        Some(true)
    }

    /// Writes what has been formed, from these bytes on, and takes it out of its pipe once all is written.
    fn write_kept(&mut self, token: usize, from: [usize; 2], now: Mono) {
        let others = self.descriptors();
        let Some(source) = self.sources.get(&token) else { return };
        let (Some(journal), Some(place)) = (keeper_of(&self.keeper), source.place) else { return };
        for ((which, sink), from) in source.sinks().enumerate().zip(from) {
            let note = Note { journal: Rc::clone(journal), place, which };
            self.places.note(sink, place, Some(note));
            self.places.take(sink, token, self.formed.get(from..).unwrap_or_default(), now, others);
        }
        if self.has_room(source) {
            self.settle(token);
        }
    }

    /// Moves what has been seen as it is, if that can be done without noting it.
    fn pass_on_seen(&mut self, token: usize, count: usize, now: Mono) -> Option<bool> {
        let source = self.sources.get(&token)?;
        let sink = source.is_unseen().filter(|sink| self.places.users(*sink) == 1)?;
        let moved = self.places.pass_on(sink, token, source, count, now)?;
        if moved > 0 {
            let line_ends = self.chunk.get(..moved).is_some_and(|bytes| bytes.ends_with(b"\n"));
            self.places.has_passed_on(sink, line_ends);
            self.form_kept(token, moved, true, Rest::Stays, &Stamp::now(), now);
        }
        Some(moved > 0)
    }

    /// Forms what has been seen, as far as lines have an end, or as `rest` says.
    fn form_kept(
        &mut self,
        token: usize,
        count: usize,
        alone: bool,
        rest: Rest,
        time: &Stamp,
        now: Mono,
    ) -> Option<usize> {
        let source = self.sources.get_mut(&token)?;
        let Whose { app, id, stream, .. } = &source.whose;
        let mut judge = self.desk.take(app, *id, *stream, time.unix_ms, now);
        self.formed.clear();
        let seen = self.chunk.get(..count).unwrap_or_default();
        Some(source.form_kept(seen, alone, rest, time, &mut self.formed, &mut judge))
    }

    /// All is told: goes on where the logger before this one was.
    pub(super) fn go_on_from_journal(&mut self, now: Mono) {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.waits) else { return };
        keeper.waits = false;
        let journal = Rc::clone(&keeper.journal);
        let found = journal.found();
        if !found.iter().any(|(_, entry)| entry.is_taken) {
            journal.forget_taken();
        }
        for (place, entry) in found {
            let stream = if entry.is_stderr { Stream::Err } else { Stream::Out };
            let is_its = |source: &Source| (source.whose.run.0, source.whose.stream) == (entry.run, stream);
            let Some((token, source)) = self.sources.iter_mut().find(|(_, source)| is_its(source)) else {
                // All of it was taken, and nothing else came.
                journal.leave(place);
                continue;
            };
            let token = *token;
            (source.place, source.owed) = (Some(place), usize::try_from(entry.count).ok());
            if !entry.is_taken && !self.write_again(token, &entry, now) {
                // It is taken for something new.
                if let Some(source) = self.sources.get_mut(&token) {
                    source.owed = None;
                }
                journal.note(place, None);
            } else if entry.is_taken {
                self.settle(token);
            }
        }
        journal.forget_taken();
    }

    /// Goes on with a piece that was being written. False: it is not what it was.
    fn write_again(&mut self, token: usize, entry: &Entry, now: Mono) -> bool {
        let (Some(keeper), Some(source)) = (&mut self.keeper, self.sources.get_mut(&token)) else { return false };
        let count = usize::try_from(entry.count).unwrap_or(usize::MAX);
        let (Ok(glass), Some(chunk)) = (keeper.glass(source), self.chunk.get_mut(..count)) else { return false };
        if glass.look(&*source, chunk).ok() != Some(count) {
            return false;
        }
        let style = Style { usual: mode(entry.mode), width: usize::try_from(entry.width).unwrap_or(0), ..self.style };
        let color = source.sinks().all(|sink| self.places.is_terminal(sink));
        source.shape(style, color);
        let time = Stamp::of(entry.time_ms);
        let taken = self.form_kept(token, count, entry.alone, entry.rest, &time, now);
        self.shape();
        let formed = self.formed.len() as u64;
        if taken != Some(count) || formed != entry.formed {
            return false;
        }
        let Some(source) = self.sources.get(&token) else { return false };
        let sinks: Vec<usize> = source.sinks().collect();
        let mut from = [0; 2];
        for ((sink, mark), from) in sinks.into_iter().zip(&entry.marks).zip(&mut from) {
            let left = self.places.left(sink, mark);
            if left > formed {
                // The end of somebody's line comes first.
                self.places.take(sink, token, b"\n", now, 0);
            }
            *from = usize::try_from(formed.saturating_sub(left)).unwrap_or(0);
        }
        self.write_kept(token, from, now);
        true
    }
}

fn keeper_of(keeper: &Option<Keeper>) -> Option<&Rc<Journal>> {
    keeper.as_ref().map(|keeper| &keeper.journal)
}

/// The usual form of output, as a number: it is a prefix or none where nobody has set another.
const MODES: [LogMode; 6] =
    [LogMode::Auto, LogMode::Raw, LogMode::Prefix, LogMode::Json, LogMode::Inherit, LogMode::None];

fn code(mode: LogMode) -> u64 {
    MODES.iter().position(|one| *one == mode).unwrap_or(0) as u64
}

fn mode(code: u64) -> LogMode {
    usize::try_from(code).ok().and_then(|code| MODES.get(code).copied()).unwrap_or_default()
}
