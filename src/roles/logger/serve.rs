//! What clients ask of the logger, and what it leaves for those who look after pm3 has ended: it may empty files and open
//! them again, and remembers what nobody else does.

use std::path::Path;

use log::warn;

use super::desk::{Asked, Desk};
use super::source::{CHUNK, PIECE_LEAST};
use super::{Leaves, Logger, resolved};
use crate::control::logs::{Event, Stream};
use crate::control::role::{Ask, Served, Targets};
use crate::supervisor::event::Outcome;
use crate::sys::{append, clock, errno, say, why};

impl Logger {
    /// Does what a client asks.
    pub(super) fn serve(&mut self, served: Served) {
        let Some(connection) = self.line.next_fd() else {
            warn!("logger: a client came without its connection");
            return;
        };
        let Served { ask, of } = served;
        self.catch_up(&of);
        match ask {
            Ask::Read(query) => {
                let (lost, crowded) = (self.lost(&of), self.places.are_crowded(self.descriptors()));
                self.places.make_room(self.descriptors() + 1);
                self.desk.serve(connection, Asked { query, of, lost, crowded }, self.poll.registry());
            }
            Ask::Flush => Desk::answer(connection, self.flush(&of)),
            Ask::Reopen => {
                let failed: Vec<Box<str>> =
                    self.places.reopen_files(self.descriptors() + 1).into_iter().map(Into::into).collect();
                let done = if failed.is_empty() { vec!["all".into()] } else { Vec::new() };
                Desk::answer(connection, Outcome { done, failed, ..Outcome::default() });
            }
        }
    }

    /// Moves what these have written by now: it came before what is asked, and a file that is emptied or moved away next is
    /// where it belongs. No more than the pipes hold, as those who write may never stop.
    pub(super) fn catch_up(&mut self, of: &Targets) {
        for source in self.sources.values_mut().filter(|source| of.has(&source.whose.app, source.whose.id)) {
            source.ready = true;
        }
        for _ in 0..CHUNK / PIECE_LEAST {
            if !self.has_work() {
                return;
            }
            self.move_output(clock::now());
        }
    }

    /// What of their output does not arrive, and why.
    fn lost(&self, of: &Targets) -> Vec<Event> {
        let mut lost: Vec<Event> = Vec::new();
        for known in self.desk.meant(of) {
            for stream in [Stream::Out, Stream::Err] {
                let places = [Some(known.file(stream)), known.beside(stream).map(Some)];
                for why in
                    places.into_iter().flatten().filter_map(|file| self.places.trouble(file, stream, known.blocks))
                {
                    let event = Event::Lost { app: known.app.clone(), id: known.id.0, why: why.into() };
                    if !lost.contains(&event) {
                        lost.push(event);
                    }
                }
            }
        }
        lost
    }

    /// Leaves the reason of a failure where it is looked for, and the last lines of whose it is. Init has left it there already,
    /// and told what keeps it from that.
    pub(super) fn leave(&self) {
        let Some(Leaves { path, text, id }) = &self.leaves else { return };
        let mut text = text.as_bytes().to_vec();
        text.extend(self.desk.last_words(*id, say::LEAVE_MAX.saturating_sub(text.len())));
        let _ = say::leave(Path::new(&**path), &text);
    }

    /// Empties the files of these instances, and forgets what they wrote.
    fn flush(&mut self, of: &Targets) -> Outcome {
        let mut outcome = Outcome::default();
        for known in self.desk.meant(of) {
            for file in known.files() {
                let ids = resolved(file).map_err(|failure| failure.to_string());
                let emptied = ids.and_then(|ids| {
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
}
