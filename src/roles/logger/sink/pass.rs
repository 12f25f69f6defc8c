//! What a place does beside writing what it is given: it takes bytes out of a pipe unread, and notes how far it has come
//! with what must not be lost.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use log::debug;

use super::super::journal::{Mark, Note};
use super::{Sink, Way};
use crate::supervisor::event::Mono;
use crate::sys::{errno, why};

impl Sink {
    /// From now on it is noted how far it has come; or no more, if it was at this place.
    pub(in super::super) fn note(&mut self, place: usize, note: Option<Note>) {
        if note.is_some() || self.note.as_ref().is_some_and(|note| note.place == place) {
            self.note = note;
        }
    }

    /// Of a file its length tells.
    pub(super) fn note_left(&self) {
        if let (Some(note), Way::Out(_)) = (&self.note, &self.way) {
            note.is_left(self.kept.len().saturating_sub(self.written));
        }
    }

    /// How much is left to be written of a piece with this mark.
    pub(in super::super) fn left(&mut self, mark: &Mark) -> u64 {
        // What cannot be opened is told when it is written to.
        let _ = self.open();
        let found = if let Way::File(file) = &self.way { file.metadata().ok() } else { None };
        mark.left_with(found.as_ref())
    }

    /// What was passed on was seen, and has an end.
    pub(in super::super) fn line_has_ended(&mut self) {
        (self.open_line, self.mid_line) = (None, false);
    }

    /// Moves bytes of the stream `whose` from its pipe, unread. How many that were: where there is no room, none, and the
    /// rest stays where it is. None: it cannot do that, and they have to be read.
    pub(in super::super) fn pass_on(&mut self, whose: usize, pipe: impl AsFd, most: usize, now: Mono) -> Option<usize> {
        let Way::Out(out) = &self.way else { return None };
        let is_others = self.open_line.is_some_and(|other| other != whose);
        if self.only_writes || self.stuck || is_others || !self.kept.is_empty() {
            return None;
        }
        match out.take_from(pipe, most) {
            Ok(count) => {
                // Until somebody has seen that the line has an end.
                (self.open_line, self.mid_line, self.full_since) = (Some(whose), true, None);
                self.loss.works(&self.name, now);
                Some(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_full = true;
                self.look(false, now);
                Some(0)
            }
            Err(error) => {
                debug!("logger: what is for {} is read and written: {}", self.name, why(errno::of(&error)));
                self.only_writes = true;
                None
            }
        }
    }
}
