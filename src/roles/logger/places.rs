//! All places where output goes: pm3's own stdout and stderr, and the files, each once however many streams go there. Files
//! share what descriptors there are: pipes and readers come first, so those that are open are closed where one is missing,
//! and opened again when there is something for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::journal::{Mark, Note};
use super::press::Job;
use super::sink::Sink;
use super::turn;
use crate::control::logs::Stream;
use crate::control::role::LogFile;
use crate::supervisor::event::Mono;
use crate::supervisor::spec::LogRotate;
use crate::sys::fds;

const STDOUT: usize = 0;
const STDERR: usize = 1;

/// Descriptors beside pipes, files and readers: the standard ones, what is polled with.
const OWN: usize = 8;

/// Descriptors that no file takes, and of a small table its part: pipes and readers come unasked, and would be lost.
const FREE: usize = 32;

/// Files whose old ones are seen to before it is the streams' turn again.
const TENDED_MAX: usize = 4;

/// The places by number, which is never used twice.
#[derive(Debug)]
pub(super) struct Places {
    sinks: BTreeMap<usize, Sink>,
    next: usize,
    /// Whose old file was compressed last.
    pressed: usize,
    /// How many descriptors there may be.
    limit: usize,
}

impl Places {
    /// pm3's own two places. That of the number n has the token `first + n`.
    pub(super) fn new(registry: &Registry, first: usize) -> Places {
        let sinks = BTreeMap::from([(STDOUT, Sink::stdout()), (STDERR, Sink::stderr())]);
        for (number, sink) in &sinks {
            if let Some(fd) = sink.fd() {
                // What cannot be watched always has room: files.
                let _ = registry.register(&mut SourceFd(&fd), Token(first + number), Interest::WRITABLE);
            }
        }
        Places { sinks, next: STDERR + 1, pressed: 0, limit: usize::try_from(fds::limit()).unwrap_or(usize::MAX) }
    }

    /// The place of a stream that goes to this file, or to pm3's own stream, from now on. A file is rotated as the last
    /// stream that joins wants it. `others`: descriptors that are in use for something else than files.
    pub(super) fn join(
        &mut self,
        file: Option<&LogFile>,
        stream: Stream,
        rotate: Option<&LogRotate>,
        others: usize,
    ) -> usize {
        let number = self.number_of(file, stream).unwrap_or(self.next);
        if let Some(file) = file.filter(|_| number == self.next) {
            self.sinks.insert(number, Sink::file(file));
            self.next += 1;
        }
        if let Some(sink) = self.sinks.get_mut(&number).filter(|_| file.is_some()) {
            sink.rotate(rotate);
        }
        if self.sinks.get(&number).is_some_and(Sink::is_closed) {
            self.make_room(others);
        }
        if let Some(sink) = self.sinks.get_mut(&number) {
            sink.users += 1;
            sink.prepare();
        }
        number
    }

    /// A stream that has joined it waits however long nothing is taken there.
    pub(super) fn is_waited_for(&mut self, number: usize) {
        if let Some(sink) = self.sinks.get_mut(&number) {
            sink.waiters += 1;
        }
    }

    /// A stream that went there has ended. `waits`: it was one of those that wait.
    pub(super) fn leave(&mut self, number: usize, waits: bool) {
        if let Some(sink) = self.sinks.get_mut(&number) {
            (sink.users, sink.waiters) = (sink.users - 1, sink.waiters - usize::from(waits));
        }
    }

    fn number_of(&self, file: Option<&LogFile>, stream: Stream) -> Option<usize> {
        match (file, stream) {
            (Some(file), _) => self.sinks.range(STDERR + 1..).find(|(_, sink)| sink.file == *file).map(|(at, _)| *at),
            (None, Stream::Out) => Some(STDOUT),
            (None, Stream::Err) => Some(STDERR),
        }
    }

    /// Why what goes there does not arrive. `waits`: of who waits as long as nothing is taken.
    pub(super) fn trouble(&self, file: Option<&LogFile>, stream: Stream, waits: bool) -> Option<String> {
        self.sinks.get(&self.number_of(file, stream)?)?.trouble(waits)
    }

    /// Whether more can be taken over by all of these. `waits`: so that nothing is dropped where nothing is taken.
    pub(super) fn have_room(&self, mut numbers: impl Iterator<Item = usize>, waits: bool) -> bool {
        numbers.all(|number| self.sinks.get(&number).is_none_or(|sink| sink.has_room(waits)))
    }

    /// Whether all is written.
    pub(super) fn are_done(&self) -> bool {
        self.sinks.values().all(|sink| sink.has_room(false))
    }

    /// How many streams go there.
    pub(super) fn users(&self, number: usize) -> usize {
        self.sinks.get(&number).map_or(0, |sink| sink.users)
    }

    pub(super) fn is_terminal(&self, number: usize) -> bool {
        self.sinks.get(&number).is_some_and(Sink::is_terminal)
    }

    /// When there is something to do by itself.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.sinks.values().filter_map(Sink::deadline).min()
    }

    /// Writes bytes of the stream `whose` there. `others` as of [`join`](Places::join).
    pub(super) fn take(&mut self, number: usize, whose: usize, bytes: &[u8], now: Mono, others: usize) {
        if self.sinks.get(&number).is_some_and(Sink::is_closed) && !bytes.is_empty() {
            self.make_room(others);
        }
        let Some(sink) = self.sinks.get_mut(&number) else { return };
        sink.take(whose, bytes, now);
        if sink.has_turned() {
            self.let_go_of_others(number);
        }
        let Some(sink) = self.sinks.get_mut(&number) else { return };
        if sink.is_short() && self.close_files() > 0 {
            self.go_on(number, now);
        }
    }

    /// Moves bytes of the stream `whose` there from its pipe, unread. None: they have to be read.
    pub(super) fn pass_on(
        &mut self,
        number: usize,
        whose: usize,
        pipe: impl AsFd,
        most: usize,
        now: Mono,
    ) -> Option<usize> {
        self.sinks.get_mut(&number)?.pass_on(whose, pipe, most, now)
    }

    /// What was passed on was seen: whether it was the end of a line.
    pub(super) fn has_passed_on(&mut self, number: usize, line_ends: bool) {
        if let Some(sink) = self.sinks.get_mut(&number).filter(|_| line_ends) {
            sink.line_has_ended();
        }
    }

    /// Where this one notes how far it has come with what it takes next. None: it does not any more, if it was there.
    pub(super) fn note(&mut self, number: usize, place: usize, note: Option<Note>) {
        if let Some(sink) = self.sinks.get_mut(&number) {
            sink.note(place, note);
        }
    }

    /// How much is left to be written of a piece with this mark.
    pub(super) fn left(&mut self, number: usize, mark: &Mark) -> u64 {
        self.sinks.get_mut(&number).map_or(mark.left, |sink| sink.left(mark))
    }

    /// This one takes something again, or it is time to try.
    pub(super) fn go_on(&mut self, number: usize, now: Mono) {
        if let Some(sink) = self.sinks.get_mut(&number) {
            sink.go_on(now);
        }
    }

    /// A file has been put away: others who write to the same one are to open the new one, and not to put that away.
    fn let_go_of_others(&mut self, number: usize) {
        let Some(name) = self.sinks.get(&number).map(|sink| sink.name.clone()) else { return };
        let others = self.sinks.iter_mut().filter(|(at, sink)| **at != number && sink.name == name);
        others.for_each(|(_, sink)| sink.reopen());
    }

    /// Whether there is something to do about old files.
    pub(super) fn have_chores(&self) -> bool {
        self.sinks.values().any(Sink::has_chores)
    }

    /// Does what there is to do about old files, of a few at a time: it looks through whole directories, and lines come
    /// first. Returns one that is to be compressed, each place's in turn, unless one is just being compressed.
    pub(super) fn tend(&mut self, pressing: Option<&Job>) -> Option<Job> {
        if !self.have_chores() {
            return None;
        }
        let turn = self.pressed;
        let (before, after): (Vec<_>, Vec<_>) = self.sinks.iter_mut().partition(|(number, _)| **number <= turn);
        let mut job = None;
        let due = after.into_iter().chain(before).filter(|(_, sink)| sink.has_chores());
        for (number, sink) in due.take(TENDED_MAX) {
            let Some((turns, path, ids)) = sink.turns() else { continue };
            let own = pressing.filter(|job| job.is_beside(path)).map(|job| &*job.name);
            let found = turns.tend(path, ids, own).filter(|_| pressing.is_none() && job.is_none());
            let (Some(name), Some((directory, _))) = (found, turn::parts(path)) else { continue };
            job = Some(Job { number: *number, directory: directory.into(), name, ids: ids.clone() });
        }
        self.pressed = job.as_ref().map_or(turn, |job| job.number);
        job
    }

    /// An old file has been compressed, or could not be: others may have been waiting for that.
    pub(super) fn has_pressed(&mut self, job: &Job, done: io::Result<()>) {
        if let (Err(error), Some((turns, ..))) = (done, self.sinks.get_mut(&job.number).and_then(Sink::turns)) {
            turns.not_pressed(job, &error);
        }
        let waiting = self.sinks.values_mut().filter_map(Sink::turns).filter(|(turns, ..)| turns.waits);
        waiting.for_each(|(turns, ..)| turns.has_chores = true);
    }

    /// Does what is due.
    pub(super) fn go_on_with_due(&mut self, now: Mono) {
        let due = |sink: &Sink| sink.deadline().is_some_and(|at| at <= now);
        if self.sinks.values().any(|sink| sink.is_short() && due(sink)) {
            self.close_files();
        }
        self.sinks.values_mut().filter(|sink| due(sink)).for_each(|sink| sink.go_on(now));
    }

    /// Lets go of all files, so that they are opened again under their names. How many were open.
    pub(super) fn close_files(&mut self) -> usize {
        let open = self.sinks.values_mut().filter(|sink| sink.is_open_file());
        open.map(Sink::reopen).count()
    }

    /// Opens all files again that were open, under their names. What keeps any from it.
    pub(super) fn reopen_files(&mut self, others: usize) -> Vec<String> {
        let open = self.sinks.iter().filter(|(_, sink)| sink.is_open_file());
        let open: Vec<usize> = open.map(|(number, _)| *number).collect();
        self.close_files();
        for number in &open {
            self.make_room(others);
            if let Some(sink) = self.sinks.get_mut(number) {
                sink.prepare();
            }
        }
        open.iter().filter_map(|number| self.sinks.get(number)?.trouble(false)).collect()
    }

    /// Leaves descriptors for what comes unasked.
    pub(super) fn make_room(&mut self, others: usize) {
        let open = self.sinks.values().filter(|sink| sink.is_open_file()).count();
        if OWN + others + open + FREE.min(self.limit / 8) >= self.limit {
            self.close_files();
        }
    }

    /// Whether there would be no room for one more of what may be refused, with that many in use for something else than
    /// files.
    pub(super) fn are_crowded(&self, others: usize) -> bool {
        OWN + others + FREE.min(self.limit / 16) >= self.limit
    }

    /// Forgets files that nobody writes to, but for those that are in trouble and that somebody will write to: `is_known`.
    pub(super) fn tidy(&mut self, is_known: impl Fn(&LogFile) -> bool) {
        if self.sinks.range(STDERR + 1..).all(|(_, sink)| !sink.is_idle()) {
            return;
        }
        self.sinks.retain(|number, sink| {
            let stays = *number <= STDERR || !sink.is_idle() || sink.trouble(false).is_some() && is_known(&sink.file);
            if !stays {
                sink.give_up();
            }
            stays
        });
    }

    /// pm3 ends: nothing waits for better times any more.
    pub(super) fn hurry(&mut self, now: Mono) {
        for sink in self.sinks.values_mut() {
            sink.hurry();
            if sink.is_short() {
                sink.go_on(now);
            }
        }
    }

    /// Ends waiting for what is not written.
    pub(super) fn give_up(&mut self) {
        self.sinks.values_mut().for_each(Sink::give_up);
    }
}
