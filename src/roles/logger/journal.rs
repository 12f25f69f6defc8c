//! What one logger leaves to the next, so that nothing is lost and nothing is written twice when it is killed: notes of what
//! it is about to write, and a pipe. Init holds both, and looks at neither.
//!
//! A piece of output stays in the app's pipe until it is written. First it is noted how long the piece is and what it
//! becomes; then, for each file, how long that is before each write: so its length tells later how much was written. Only
//! then is the piece taken out of the app's pipe, into the journal's own. That is one step for the kernel (splice(2)): either it is
//! there, or it is not, and the next logger sees which. At last the note is struck out, and what has been taken is forgotten.
//!
//! It is of no use to anybody but a pm3 of the same version, and is never read by another: an init's loggers are itself.

use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

use crate::sys::fds;

/// Numbers of a note.
const WORDS: usize = 16;

/// Bytes of a note. No write of one is ever seen half done: it is within a page, and nobody else is there.
const NOTE: usize = WORDS * size_of::<u64>();

/// How far the writing of a piece to one place has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes that were left before the write that may be under way. More than there are where an end of a line comes first.
    pub(super) left: u64,
    /// The file that is written to: its device, its inode, and how long it was then. Zero: none is being written to.
    pub(super) file: [u64; 3],
}

impl Mark {
    /// How much is left, where `found` is what the file is now.
    pub(super) fn left_with(&self, found: Option<&Metadata>) -> u64 {
        let [device, inode, len] = self.file;
        let is_same = |found: &&Metadata| inode != 0 && (found.dev(), found.ino()) == (device, inode);
        // One that is shorter than it was has been emptied, and nobody knows when: better twice than never.
        let written = found.filter(is_same).and_then(|found| found.len().checked_sub(len)).unwrap_or(0);
        self.left.saturating_sub(written)
    }
}

/// What becomes of a line that has begun and has no end in a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// It stays in the pipe until it has one.
    #[default]
    Stays,
    /// It gets none.
    IsOver,
    /// It is too long for the pipe.
    IsCut,
}

/// A piece of output that is being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// All of it is written, and it is being taken out of its pipe.
    pub(super) is_taken: bool,
    pub(super) run: u64,
    pub(super) is_stderr: bool,
    /// Its bytes in the app's pipe, and those that come of them.
    pub(super) count: u64,
    pub(super) formed: u64,
    /// What that depends on, beside what init tells of the app.
    pub(super) time_ms: u64,
    pub(super) mode: u64,
    pub(super) width: u64,
    pub(super) alone: bool,
    pub(super) rest: Rest,
    /// For each of the two places that it may go to.
    pub(super) marks: [Mark; 2],
}

impl Entry {
    fn words(&self) -> [u64; WORDS] {
        let [first, second] = self.marks;
        let [device, inode, len] = first.file;
        let [device2, inode2, len2] = second.file;
        let (is_over, is_cut) = (self.rest == Rest::IsOver, self.rest == Rest::IsCut);
        let flags = [true, self.is_taken, self.is_stderr, self.alone, is_over, is_cut];
        let flags = flags.into_iter().rev().fold(0, |word, flag| word << 1 | u64::from(flag));
        let Entry { run, count, formed, time_ms, mode, width, .. } = *self;
        [
            flags,
            run,
            count,
            formed,
            time_ms,
            mode,
            width,
            0,
            first.left,
            device,
            inode,
            len,
            second.left,
            device2,
            inode2,
            len2,
        ]
    }

    /// None: there is no note.
    fn of(words: [u64; WORDS]) -> Option<Entry> {
        let [flags, run, count, formed, time_ms, mode, width, _, left, d, i, l, left2, d2, i2, l2] = words;
        let flag = |bit: u32| flags >> bit & 1 == 1;
        flag(0).then_some(Entry {
            is_taken: flag(1),
            run,
            is_stderr: flag(2),
            count,
            formed,
            time_ms,
            mode,
            width,
            alone: flag(3),
            rest: match (flag(4), flag(5)) {
                (true, _) => Rest::IsOver,
                (_, true) => Rest::IsCut,
                (false, false) => Rest::Stays,
            },
            marks: [Mark { left, file: [d, i, l] }, Mark { left: left2, file: [d2, i2, l2] }],
        })
    }
}

/// The notes, and the pipe.
#[derive(Debug)]
pub(super) struct Journal {
    notes: File,
    taken: File,
    into: OwnedFd,
    /// What stands in each place for a note.
    entries: RefCell<Vec<Option<Entry>>>,
    /// Which of these belong to a stream.
    used: RefCell<Vec<bool>>,
}

impl Journal {
    /// Reads what the logger before this one has left.
    ///
    /// # Errors
    /// From read(2).
    pub(super) fn new(notes: OwnedFd, taken: OwnedFd, into: OwnedFd) -> io::Result<Journal> {
        let notes = File::from(notes);
        let mut bytes = vec![0; usize::try_from(notes.metadata()?.len()).unwrap_or_default()];
        notes.read_exact_at(&mut bytes, 0)?;
        let (notes_left, _) = bytes.as_chunks::<NOTE>();
        let entries: Vec<Option<Entry>> = notes_left
            .iter()
            .map(|note| {
                let (words, _) = note.as_chunks::<8>();
                let mut all = [0; WORDS];
                all.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_ne_bytes(*from));
                Entry::of(all)
            })
            .collect();
        let used = RefCell::new(entries.iter().map(Option::is_some).collect());
        Ok(Journal { notes, taken: taken.into(), into, entries: RefCell::new(entries), used })
    }

    /// What is noted, by its place: those that are being taken out come first.
    pub(super) fn found(&self) -> Vec<(usize, Entry)> {
        let entries = self.entries.borrow();
        let mut found = Vec::new();
        for taken_now in [true, false] {
            let all = entries.iter().enumerate().filter_map(|(at, entry)| Some((at, (*entry)?)));
            found.extend(all.filter(|(_, entry)| entry.is_taken == taken_now));
        }
        found
    }

    /// A place for the notes of a stream.
    pub(super) fn place(&self) -> usize {
        let mut used = self.used.borrow_mut();
        let at = used.iter().position(|used| !used).unwrap_or(used.len());
        match used.get_mut(at) {
            Some(used) => *used = true,
            None => used.push(true),
        }
        at
    }

    /// The stream has ended.
    pub(super) fn leave(&self, place: usize) {
        self.note(place, None);
        if let Some(used) = self.used.borrow_mut().get_mut(place) {
            *used = false;
        }
    }

    /// Notes what is being written, or that nothing is.
    pub(super) fn note(&self, place: usize, entry: Option<Entry>) {
        let mut entries = self.entries.borrow_mut();
        if entries.len() <= place {
            entries.resize(place + 1, None);
        }
        let Some(noted) = entries.get_mut(place).filter(|noted| **noted != entry) else { return };
        *noted = entry;
        let words = entry.map_or([0; WORDS], |entry| entry.words());
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // Where there is no memory for a note, what comes next may be lost with this logger, and nothing else.
        let _ = self.notes.write_all_at(&bytes, (place * NOTE) as u64);
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Entry)) {
        let entry = self.entries.borrow().get(place).copied().flatten();
        if let Some(mut entry) = entry {
            change(&mut entry);
            self.note(place, Some(entry));
        }
    }

    /// Takes a piece that is written out of its pipe.
    pub(super) fn take(&self, place: usize, pipe: &impl AsFd, count: usize) {
        self.change(place, |entry| entry.is_taken = true);
        // Of what an earlier logger was taking all may be there already.
        let mut left = count.saturating_sub(fds::unread(&self.taken));
        while left > 0 {
            match fds::splice(pipe, &self.into, left) {
                Ok(some) if some > 0 => left -= some,
                // It has fewer places than the piece takes.
                Err(error) if error.kind() == ErrorKind::WouldBlock && fds::unread(&self.taken) > 0 => {
                    self.change(place, |entry| entry.count = left as u64);
                    self.forget_taken();
                }
                Ok(_) | Err(_) => break,
            }
        }
        self.note(place, None);
        self.forget_taken();
    }

    /// What has been taken, and is not noted any more, is of no use.
    pub(super) fn forget_taken(&self) {
        let mut waste = [0; 16 << 10];
        while matches!((&self.taken).read(&mut waste), Ok(count) if count > 0) {}
    }

    /// For how many pages there is room at once.
    pub(super) fn pages(&self) -> usize {
        fds::pages(&self.into)
    }
}

/// Where a place notes how far it has come with a piece.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) journal: Rc<Journal>,
    pub(super) place: usize,
    /// Which of the two places that the piece goes to.
    pub(super) which: usize,
}

impl Note {
    fn mark(&self, mark: Mark) {
        self.journal.change(self.place, |entry| {
            if let Some(own) = entry.marks.get_mut(self.which) {
                *own = mark;
            }
        });
    }

    /// So many bytes are about to be written to this file, or a part of them.
    pub(super) fn before(&self, left: usize, file: &File) {
        let file = file.metadata().map(|found| [found.dev(), found.ino(), found.len()]).unwrap_or_default();
        self.mark(Mark { left: left as u64, file });
    }

    /// So many bytes are left, and none is being written.
    pub(super) fn is_left(&self, left: usize) {
        self.mark(Mark { left: left as u64, file: [0; 3] });
    }
}
