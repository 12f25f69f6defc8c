//! A log file makes room for a new one: it is put away under the name of an old one, and what is to be done about the old
//! ones follows, as `rotate` has it. Here it is done, as the user whose output it is. Output is never lost by it: a file
//! that cannot be put away grows on, and that is told.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use log::warn;

use super::press::Job;
use super::rotate::{self, Date, Facts, Names};
use crate::supervisor::event::Mono;
use crate::supervisor::spec::LogRotate;
use crate::sys::spawn::ids::Ids;
use crate::sys::{clock, errno, shelf, why};

/// A file that could not be put away is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Names that somebody else may have taken before another is tried later.
const TAKEN_MAX: usize = 16;

/// How one file is rotated.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) rotate: LogRotate,
    /// It could not be put away, and is not tried again until then.
    refused_until: Option<Mono>,
    /// That has been told.
    told: bool,
    /// Its time is over. That is remembered, as the end of a line that has begun makes it look new.
    is_over: bool,
    /// It has been put away: others that have it open under its name are to know.
    pub(super) turned: bool,
    /// There may be something to do about old ones.
    pub(super) has_chores: bool,
    /// One of them is to be compressed when that can be done.
    pub(super) waits: bool,
    /// Names of those that could not be compressed: not before there is another one.
    not_pressed: Vec<String>,
    /// That one could not be compressed, or not be removed, has been told.
    told_old: bool,
}

impl Turns {
    pub(super) fn new(rotate: LogRotate) -> Turns {
        Turns {
            rotate,
            refused_until: None,
            told: false,
            is_over: false,
            turned: false,
            has_chores: true,
            waits: false,
            not_pressed: Vec::new(),
            told_old: false,
        }
    }

    /// How many of these bytes go into the file, as of [`rotate::share`].
    pub(super) fn share(&mut self, file: &File, mid_line: bool, bytes: &[u8], now: Mono) -> usize {
        let Some(found) = file.metadata().ok().filter(|found| found.is_file()) else { return bytes.len() };
        if self.refused_until.is_some_and(|until| now < until) {
            return bytes.len();
        }
        self.is_over |=
            self.rotate.every.is_some_and(|every| rotate::is_over(every, written(&found), clock::unix_ms()));
        self.is_over &= found.len() > 0;
        rotate::share(&self.rotate, Facts { len: found.len(), mid_line, is_over: self.is_over }, bytes)
    }

    /// Gives the file the name of an old one; it is to be closed then. So too where its name is another's already: then
    /// that one is to be opened. False: it stays.
    pub(super) fn put_away(&mut self, path: &Path, file: &File, ids: &Ids, now: Mono) -> bool {
        match put_away(path, file, ids, &self.rotate) {
            Ok(was_named) => {
                (self.refused_until, self.told, self.is_over) = (None, false, false);
                self.turned |= was_named;
                self.has_chores |= was_named;
                if was_named {
                    self.not_pressed.clear();
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    warn!("cannot rotate {}: {}; it grows on", path.display(), reason(&error));
                }
                self.refused_until = Some(now.after(AGAIN_AFTER));
                false
            }
        }
    }

    /// Whether its old files need nobody any more.
    pub(super) fn is_done(&self) -> bool {
        !(self.has_chores || self.waits)
    }

    /// Removes old ones that are not to stay. Which one is to be compressed next; not `pressing`, which is being compressed
    /// just now.
    pub(super) fn tend(&mut self, path: &Path, ids: &Ids, pressing: Option<&str>) -> Option<String> {
        (self.has_chores, self.waits) = (false, false);
        let (directory, name) = parts(path)?;
        let there = shelf::names(directory, ids).ok()?;
        let chores = rotate::chores(&Names::of(name), there.iter().map(String::as_str), &self.rotate, pressing);
        for old in &chores.remove {
            if let Err(error) = shelf::remove(&directory.join(old), ids) {
                self.tell_once("remove", &directory.join(old), &error);
            }
        }
        let press = chores.press.into_iter().find(|name| !self.not_pressed.contains(name));
        self.waits = press.is_some();
        press
    }

    /// One of its old files could not be compressed; others may.
    pub(super) fn not_pressed(&mut self, job: &Job, error: &io::Error) {
        self.tell_once("compress", &job.old(), error);
        self.not_pressed.push(job.name.clone());
    }

    /// The first that goes wrong with an old file: what is the matter with one is often so with all.
    fn tell_once(&mut self, what: &str, path: &Path, error: &io::Error) {
        if !std::mem::replace(&mut self.told_old, true) {
            warn!("cannot {what} {}: {}", path.display(), reason(error));
        }
    }
}

/// Whether the last line of a file has no end. One that cannot be read is taken to be whole.
pub(super) fn is_mid_line(path: &Path, file: &File, ids: &Ids) -> bool {
    let last = || {
        let at = file.metadata().ok().filter(|found| found.is_file())?.len().checked_sub(1)?;
        let mut last = [0];
        shelf::open(path, ids).ok()?.read_exact_at(&mut last, at).ok()?;
        Some(last)
    };
    last().is_some_and(|last| last != *b"\n")
}

/// False: it has not been put away, as it does not have that name any more.
fn put_away(path: &Path, file: &File, ids: &Ids, rotate: &LogRotate) -> io::Result<bool> {
    if !shelf::is_name_of(path, file, ids)? {
        return Ok(false);
    }
    let Some((directory, name)) = parts(path) else { return Err(io::Error::other("it has no name")) };
    let names = Names::of(name);
    let there = shelf::names(directory, ids)?;
    let newest = rotate::chores(&names, there.iter().map(String::as_str), rotate, None).newest;
    let mut date = Date::after(newest, written(&file.metadata()?));
    for _ in 1..TAKEN_MAX {
        match shelf::rename(path, &directory.join(names.old(date)), ids) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => date = Date::after(Some(date), 0),
            done => return done.map(|()| true),
        }
    }
    shelf::rename(path, &directory.join(names.old(date)), ids).map(|()| true)
}

/// When it was written last, in milliseconds of Unix time.
fn written(found: &std::fs::Metadata) -> u64 {
    let millis = found.mtime().saturating_mul(1_000).saturating_add(found.mtime_nsec() / 1_000_000);
    u64::try_from(millis).unwrap_or_default()
}

pub(super) fn parts(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}

fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |_| why(errno::of(error)).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::sink::Sink;
    use super::*;
    use crate::control::role::LogFile;
    use crate::dir::Dir;

    const NOW: Mono = Mono(1);

    fn rotate(size: u64) -> LogRotate {
        LogRotate { size, keep: 1_000, ..LogRotate::default() }
    }

    fn sink(dir: &Dir, rotate: &LogRotate) -> Sink {
        let mut sink = Sink::file(&LogFile { path: dir.at("a.log").into(), ..LogFile::default() });
        sink.rotate(Some(rotate));
        sink
    }

    /// What is in the files, in the order of their names, the one that is written to last.
    fn texts(dir: &Dir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        // A dot comes before an underline.
        names.sort_by_key(|path| (path.ends_with("a.log"), path.clone()));
        names.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn at_each_boundary_lines_stay_whole_and_no_file_is_too_long() {
        for size in 1_020..1_030 {
            let dir = Dir::new();
            let mut sink = sink(&dir, &rotate(size));
            let text: String = (0..300).map(|number| format!("{number:0width$}\n", width = 1 + number % 40)).collect();
            // In pieces that end anywhere, as a pipe gives them.
            for piece in text.as_bytes().chunks(97) {
                sink.take(7, piece, NOW);
            }
            let files = texts(&dir);
            assert_eq!(files.concat(), text, "{size}");
            assert!(files.len() as u64 >= text.len() as u64 / size);
            // The last line may have been longer than what had come of it.
            assert!(files.iter().all(|file| file.ends_with('\n') && (file.len() as u64) < size + 41), "{size}");
        }
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_in_one_file_whoever_writes_it() {
        let dir = Dir::new();
        let one = rotate(10);
        let mut sink = sink(&dir, &one);
        sink.take(7, b"12345678\n", NOW);
        sink.take(7, b"half a ", NOW);
        // Another logger goes on, which knows nothing but what is there.
        drop(sink);
        let mut sink = self::sink(&dir, &one);
        sink.take(9, b"very long line, ", NOW);
        sink.take(9, b"which ends\nnext\n", NOW);
        assert_eq!(texts(&dir), ["12345678\n", "half a very long line, which ends\n", "next\n"]);
    }

    #[test]
    fn a_crowd_of_files_in_one_moment_stays_in_order() {
        let dir = Dir::new();
        let mut sink = sink(&dir, &rotate(4));
        (0..500).for_each(|number| sink.take(7, format!("{number:03}\n").as_bytes(), NOW));
        assert_eq!(texts(&dir), (0..500).map(|number| format!("{number:03}\n")).collect::<Vec<_>>());
    }

    #[test]
    fn an_old_file_is_seen_by_when_it_was_written() {
        let dir = Dir::new();
        let daily = LogRotate { size: 0, every: Some(crate::supervisor::event::Millis(86_400_000)), ..rotate(0) };
        let mut sink = sink(&dir, &daily);
        sink.take(7, b"one\n", NOW);
        sink.take(7, b"two\n", NOW);
        let file = File::options().write(true).open(dir.at("a.log")).unwrap();
        let ago = |days: u64| std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        file.set_modified(ago(2)).unwrap();
        sink.take(7, b"three\n", NOW);
        sink.take(7, b"half ", NOW);
        let file = File::options().write(true).open(dir.at("a.log")).unwrap();
        file.set_modified(ago(1)).unwrap();
        // With another logger, and in the midst of a line.
        let mut sink = self::sink(&dir, &daily);
        sink.take(7, b"a line\nfour\n", NOW);
        assert_eq!(texts(&dir), ["one\ntwo\n", "three\nhalf a line\n", "four\n"]);
    }

    #[test]
    fn what_others_have_moved_or_emptied_is_not_put_away() {
        let dir = Dir::new();
        let mut sink = sink(&dir, &rotate(8));
        sink.take(7, b"one\n", NOW);
        sink.take(7, b"two\n", NOW);
        // As `pm3 flush`, or copytruncate.
        File::create(dir.at("a.log")).unwrap();
        sink.take(7, b"three\n", NOW);
        assert_eq!(texts(&dir), ["three\n"]);
        // As logrotate does it, before it says so: what is due now opens the new one.
        fs::rename(dir.at("a.log"), dir.at("a.log.1")).unwrap();
        sink.take(7, b"4\n", NOW);
        sink.take(7, b"five\n", NOW);
        assert_eq!(texts(&dir), ["three\n4\n", "five\n"]);
        fs::rename(dir.at("a.log"), dir.at("a.log.2")).unwrap();
        fs::write(dir.at("a.log"), "somebody\n").unwrap();
        sink.take(7, b"six six six\n", NOW);
        assert_eq!(texts(&dir), ["three\n4\n", "five\n", "somebody\n", "six six six\n"]);
    }

    #[test]
    fn a_directory_where_nothing_can_be_put_away_costs_no_line() {
        let dir = Dir::new();
        let mut sink = sink(&dir, &rotate(8));
        sink.take(7, b"one two\n", NOW);
        // No name of an old one is as short as the kernel wants it.
        let long = format!("{}.log", "a".repeat(240));
        let mut longer = Sink::file(&LogFile { path: dir.at(&long).into(), ..LogFile::default() });
        longer.rotate(Some(&rotate(8)));
        longer.take(7, b"one two\n", NOW);
        longer.take(7, b"three\n", NOW);
        longer.take(7, b"four\n", NOW.after(AGAIN_AFTER * 2));
        assert_eq!(fs::read_to_string(dir.at(&long)).unwrap(), "one two\nthree\nfour\n");
        assert_eq!(longer.trouble(false), None);
    }

    #[test]
    fn no_link_is_followed_and_nothing_is_overwritten() {
        let dir = Dir::new();
        let other = Dir::new();
        let target = other.file("target", "mine\n");
        let mut sink = sink(&dir, &rotate(8));
        sink.take(7, b"one two\n", NOW);
        symlink(&target, dir.at("a__9999-01-01_00-00-00-000.log")).unwrap();
        sink.take(7, b"three\n", NOW);
        // A name that is later than any: what comes next is later still.
        assert_eq!(fs::read_to_string(dir.at("a__9999-01-01_00-00-00-001.log")).unwrap(), "one two\n");
        fs::remove_file(dir.at("a.log")).unwrap();
        symlink(&target, dir.at("a.log")).unwrap();
        sink.take(7, b"four four\n", NOW);
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine\n");
        assert!(
            sink.trouble(false).unwrap().ends_with("too many symbolic links encountered"),
            "{:?}",
            sink.trouble(false)
        );
        let (turns, path, ids) = sink.turns().unwrap();
        turns.rotate.keep = 0;
        turns.tend(path, ids, None);
        // The link goes, and what it leads to stays.
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["a.log"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine\n");
    }
}
