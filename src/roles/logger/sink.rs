//! A place where output goes: pm3's own stdout or stderr, or a file. Writing never waits. What is not taken is kept, and
//! as long as something is kept, nobody reads more for this place: so who writes faster than it is read waits, as with any
//! pipe. But a place that has taken nothing for a while is stuck, and nobody waits for that: what is for it is dropped and
//! counted, until it takes something again, and then the count is told.
//!
//! A file that cannot be opened or written, because the disk is full for one, is the same: what is for it is dropped and
//! counted, and each time it is tried again. Of the line that has begun the rest is kept, and comes first when there is room:
//! so each line of the file is whole in the end, and nothing is taken back that somebody may have read already. Only where
//! there is no descriptor or no memory to open it now nothing is dropped, as that passes: then those who write wait.
//!
//! A file may be one of several that come after each other: before a line that belongs into the next one, `turn` puts it
//! away.

mod pass;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use log::warn;

use super::journal::Note;
use super::loss::Loss;
use super::resolved;
use super::rotate;
use super::turn::{self, Turns};
use crate::control::role::LogFile;
use crate::supervisor::event::Mono;
use crate::supervisor::spec::LogRotate;
use crate::sys::out::Out;
use crate::sys::spawn::ids::Ids;
use crate::sys::{append, clock, errno, why};

/// A place that has taken nothing for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How often it is tried to open a file for which there was no descriptor or no memory.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often it is tried to write the rest of a line.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A file that is put away again and again before anything was written is somebody's joke.
const TURNS_MAX: u32 = 8;

/// The most that is kept of a line for which there is no room.
const REST_MAX: usize = 64 << 10;

/// Of pm3's own directory of log files: what apps write is not everybody's business.
const OUR_DIRECTORY_MODE: u32 = 0o750;

/// Of a directory that is made for the log file of an app: as mkdir(1) makes it. The file is not for everybody.
const DIRECTORY_MODE: u32 = 0o755;

/// Of `open_line`: whoever writes next has not written what stands there.
const NOBODY: usize = usize::MAX;

#[derive(Debug)]
enum Way {
    Out(Out),
    File(File),
    /// It could not be opened, or not yet, or gave its descriptor to another.
    Closed,
}

/// Why a file is not open.
#[derive(Debug)]
struct Trouble {
    errno: i32,
    why: String,
}

impl Trouble {
    fn of(error: &io::Error) -> Trouble {
        let errno = errno::of(error);
        Trouble { errno, why: why(errno).into() }
    }
}

/// A place where output goes.
#[derive(Debug)]
pub(super) struct Sink {
    /// A file's path; for messages.
    pub(super) name: Box<str>,
    /// As whom a file is opened; None: that is not found out yet.
    ids: Option<Ids>,
    pub(super) file: LogFile,
    way: Way,
    /// Taken over and not written yet, from `written` on.
    kept: Vec<u8>,
    written: usize,
    /// It had no room for what is to be passed on unread.
    is_full: bool,
    /// What is for it has to be read: it is no pipe.
    only_writes: bool,
    /// Since when it has taken nothing of that.
    full_since: Option<Mono>,
    stuck: bool,
    /// There was no descriptor or no memory to open it: when that is tried again.
    short_until: Option<Mono>,
    /// Nobody has time any more to wait for that.
    hurries: bool,
    /// When it is tried again to write what is kept of a line.
    again_at: Option<Mono>,
    loss: Loss,
    /// Where it is noted how far it has come with what it took over last.
    note: Option<Note>,
    /// How it is rotated, if it is.
    turns: Option<Box<Turns>>,
    /// Whose line it is that has been written without its end.
    open_line: Option<usize>,
    /// The last byte that was written is no end of a line.
    mid_line: bool,
    /// How many streams go here.
    pub(super) users: usize,
    /// How many of them wait however long nothing is taken.
    pub(super) waiters: usize,
}

impl Sink {
    pub(super) fn stdout() -> Sink {
        Sink::new("stdout", Way::Out(Out::stdout()))
    }

    pub(super) fn stderr() -> Sink {
        Sink::new("stderr", Way::Out(Out::stderr()))
    }

    /// A file that is appended to, as the user whose it is; never as somebody else, who may have more rights.
    pub(super) fn file(file: &LogFile) -> Sink {
        Sink { file: file.clone(), ..Sink::new(&file.path, Way::Closed) }
    }

    fn new(name: &str, way: Way) -> Sink {
        Sink {
            name: name.into(),
            ids: None,
            file: LogFile::default(),
            way,
            kept: Vec::new(),
            written: 0,
            is_full: false,
            only_writes: false,
            full_since: None,
            stuck: false,
            short_until: None,
            hurries: false,
            again_at: None,
            loss: Loss::default(),
            note: None,
            turns: None,
            open_line: None,
            mid_line: false,
            users: 0,
            waiters: 0,
        }
    }

    /// What to watch for room, where a place may have none.
    pub(super) fn fd(&self) -> Option<RawFd> {
        match &self.way {
            Way::Out(out) => Some(out.as_raw_fd()),
            Way::File(_) | Way::Closed => None,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        match &self.way {
            Way::Out(out) => out.is_terminal(),
            Way::File(_) | Way::Closed => false,
        }
    }

    /// Lets go of a file, so that it is opened anew, under its name.
    pub(super) fn reopen(&mut self) {
        if self.is_open_file() {
            self.way = Way::Closed;
        }
    }

    /// Has a file's descriptor.
    pub(super) fn is_open_file(&self) -> bool {
        matches!(self.way, Way::File(_))
    }

    /// Needs a file's descriptor before it can write.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.way, Way::Closed)
    }

    /// How a file is rotated from now on: the last that was heard holds.
    pub(super) fn rotate(&mut self, rotate: Option<&LogRotate>) {
        if self.turns.as_ref().map(|turns| &turns.rotate) != rotate {
            self.turns = rotate.map(|rotate| Box::new(Turns::new(rotate.clone())));
            // Opened anew, it is seen whether its last line has an end.
            self.reopen();
        }
    }

    /// Whether a file was put away since this was asked last.
    pub(super) fn has_turned(&mut self) -> bool {
        self.turns.as_mut().is_some_and(|turns| std::mem::take(&mut turns.turned))
    }

    /// What there is to do about its old files, and who may do it.
    pub(super) fn turns(&mut self) -> Option<(&mut Turns, &Path, &Ids)> {
        Some((self.turns.as_deref_mut()?, Path::new(&*self.name), self.ids.as_ref()?))
    }

    /// Opens a file before there is anything to write, so that it is there, or said at once why not.
    pub(super) fn prepare(&mut self) {
        if !self.is_closed() {
            return;
        }
        match self.open() {
            Ok(()) => self.loss.works(&self.name, clock::now()),
            Err(trouble) if errno::is_shortage(trouble.errno) => {}
            Err(trouble) => self.loss.fails(&self.name, &trouble.why, clock::now()),
        }
    }

    /// There was no descriptor or no memory for it, and something waits for it.
    pub(super) fn is_short(&self) -> bool {
        self.short_until.is_some()
    }

    /// Why output does not arrive there. `waits`: that of who waits as long as nothing is taken.
    pub(super) fn trouble(&self, waits: bool) -> Option<String> {
        let name = &self.name;
        match self.loss.why() {
            Some(why) => Some(format!("cannot write to {name}: {why}")),
            None if self.stuck && !waits => Some(format!("{name} takes nothing")),
            None => None,
        }
    }

    /// Whether it is of no use to anybody who does not write to it.
    pub(super) fn is_idle(&self) -> bool {
        // What could never be opened has no old ones that could be seen to.
        let is_done = self.ids.is_none() || self.turns.as_ref().is_none_or(|turns| turns.is_done());
        self.users == 0 && self.kept.is_empty() && is_done
    }

    /// There may be something to do about its old files.
    pub(super) fn has_chores(&self) -> bool {
        self.ids.is_some() && self.turns.as_ref().is_some_and(|turns| turns.has_chores)
    }

    /// pm3 ends: what waits for better times has none.
    pub(super) fn hurry(&mut self) {
        self.hurries = true;
    }

    /// Whether more can be taken over. `waits`: of who is not to lose anything where nothing is taken.
    pub(super) fn has_room(&self, waits: bool) -> bool {
        self.kept.is_empty() && !self.is_full || self.stuck && !waits || self.loss.is_failing()
    }

    /// When there is something to do by itself: it will be stuck, or something is tried again or is to be told.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let stuck = self.full_since.filter(|_| !self.stuck).map(|since| since.after(STUCK_AFTER));
        [self.short_until.or(stuck), self.again_at, self.loss.deadline()].into_iter().flatten().min()
    }

    /// Takes bytes of the stream `whose` over, if there is room; else they are dropped.
    pub(super) fn take(&mut self, whose: usize, bytes: &[u8], now: Mono) {
        if bytes.is_empty() {
            return;
        }
        if self.stuck {
            return self.drop(bytes);
        }
        // The rest of a line comes first. Where there is no room for that, there is none for anything else.
        if self.loss.is_failing() && !self.kept.is_empty() {
            self.go_on(now);
            if !self.kept.is_empty() {
                return self.keep_rest_of_line(whose, bytes);
            }
        }
        let before = std::mem::replace(&mut self.open_line, (!bytes.ends_with(b"\n")).then_some(whose));
        // Another's unfinished line ends here, so that no two are mixed.
        if before.is_some_and(|other| other != whose) {
            self.kept.push(b'\n');
        }
        if self.kept.is_empty() {
            let (count, failed) = self.write(bytes, now);
            self.keep(bytes.get(count..).unwrap_or_default(), failed);
        } else {
            self.kept.extend_from_slice(bytes);
            self.write_kept(now);
        }
        self.look(false, now);
        self.note_left();
    }

    /// Writes what was kept, as much as is taken now, and tells what there is to tell.
    pub(super) fn go_on(&mut self, now: Mono) {
        if self.is_full {
            let went_on = matches!(&self.way, Way::Out(out) if out.has_room());
            self.is_full = !went_on;
            self.look(went_on, now);
        }
        if !self.kept.is_empty() {
            let went_on = self.write_kept(now);
            self.look(went_on, now);
            self.note_left();
        }
        self.loss.go_on(&self.name, now);
    }

    /// Ends waiting for what is kept.
    pub(super) fn give_up(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.drop(kept.get(self.written..).unwrap_or_default());
        (self.written, self.is_full, self.full_since, self.again_at) = (0, false, None, None);
        self.loss.tell_sum(&self.name);
    }

    /// Whether something was taken.
    fn write_kept(&mut self, now: Mono) -> bool {
        let kept = std::mem::take(&mut self.kept);
        let (count, failed) = self.write(kept.get(self.written..).unwrap_or_default(), now);
        self.written += count;
        if failed {
            let rest = kept.get(self.written..).unwrap_or_default();
            self.written = 0;
            self.keep(rest, true);
        } else {
            self.kept = kept;
        }
        count > 0
    }

    /// Keeps what is to be written later. `failed`: of that only the rest of the line that has begun, as nobody knows when
    /// it will be.
    fn keep(&mut self, rest: &[u8], failed: bool) {
        let has_begun = self.mid_line && self.is_open_file();
        let most = match failed {
            false => rest.len(),
            true if has_begun => Some(rotate::first_line(rest)).filter(|length| *length <= REST_MAX).unwrap_or(0),
            true => 0,
        };
        let (kept, lost) = rest.split_at_checked(most).unwrap_or((rest, &[]));
        self.kept.extend_from_slice(kept);
        self.drop(lost);
    }

    /// As `keep`, of bytes that come while nothing can be written.
    fn keep_rest_of_line(&mut self, whose: usize, bytes: &[u8]) {
        let goes_on = self.open_line == Some(whose) && !self.kept.ends_with(b"\n");
        let length = if goes_on { rotate::first_line(bytes) } else { 0 };
        let length = if self.kept.len() + length > REST_MAX { 0 } else { length };
        let (kept, lost) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        self.kept.extend_from_slice(kept);
        if self.kept.ends_with(b"\n") {
            self.open_line = None;
        }
        self.drop(lost);
    }

    /// What follows from how much is kept.
    fn look(&mut self, went_on: bool, now: Mono) {
        if went_on {
            self.full_since = None;
            if std::mem::take(&mut self.stuck) {
                self.loss.tell_sum(&self.name);
            }
        }
        if self.short_until.is_some() {
            // Not its own fault.
            self.short_until = Some(now.after(RETRY_AFTER));
            return;
        }
        self.again_at = None;
        if self.written >= self.kept.len() && !self.is_full {
            // It may be large, and is needed seldom.
            (self.kept, self.written, self.full_since) = (Vec::new(), 0, None);
            return;
        }
        if self.loss.is_failing() {
            (self.again_at, self.full_since) = (Some(now.after(AGAIN_AFTER)), None);
            return;
        }
        let since = *self.full_since.get_or_insert(now);
        if !self.stuck && since.after(STUCK_AFTER) <= now {
            self.stuck = true;
            let waits = "those who write to it wait";
            let goes_on: String = match self.waiters {
                0 => "output for it is dropped until it does".into(),
                all if all == self.users => waits.into(),
                _ => format!("output for it is dropped until it does, but with log_on_full = \"block\" {waits}"),
            };
            warn!("{} takes nothing; {goes_on}", self.name);
        }
    }

    /// How much was taken, and whether there was an error.
    fn write(&mut self, bytes: &[u8], now: Mono) -> (usize, bool) {
        let (mut count, mut turns) = (0, 0);
        while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
            match self.is_open() {
                Ok(true) => {}
                Ok(false) => return (count, false),
                Err(trouble) => {
                    self.loss.fails(&self.name, &trouble.why, now);
                    return (count, true);
                }
            }
            let share = if turns < TURNS_MAX { self.share(rest, now) } else { rest.len() };
            if share == 0 {
                turns += 1;
                continue;
            }
            turns = 0;
            if let (Some(note), Way::File(file)) = (&self.note, &self.way) {
                note.before(rest.len(), file);
            }
            match self.write_some(rest.get(..share).unwrap_or(rest)) {
                Ok(0) => return (count, false),
                Ok(some) => {
                    count += some;
                    self.mid_line = bytes.get(count.saturating_sub(1)) != Some(&b'\n');
                    // Of a full disk a little may be left: then nothing is better yet.
                    if count >= bytes.len() || !self.is_open_file() {
                        self.loss.works(&self.name, now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.fd().is_some() => return (count, false),
                Err(error) => {
                    self.loss.fails(&self.name, &why(errno::of(&error)), now);
                    return (count, true);
                }
            }
        }
        (count, false)
    }

    /// How much of these bytes belongs into the file that is open. 0: none; it has been closed, and another is to be opened.
    fn share(&mut self, bytes: &[u8], now: Mono) -> usize {
        let (Some(turns), Way::File(file), Some(ids)) = (&mut self.turns, &self.way, &self.ids) else {
            return bytes.len();
        };
        let share = turns.share(file, self.mid_line, bytes, now);
        // From then on its name tells nothing of what was written last.
        self.note.iter().filter(|_| share == 0).for_each(|note| note.is_left(bytes.len()));
        if share > 0 || !turns.put_away(Path::new(&*self.name), file, ids, now) {
            return if share > 0 { share } else { bytes.len() };
        }
        self.way = Way::Closed;
        0
    }

    /// The file is open. False: it is not, and will be tried again, with nothing lost. An error is told.
    fn is_open(&mut self) -> Result<bool, Trouble> {
        let was_short = self.short_until.take().is_some();
        match self.open() {
            Ok(()) => Ok(true),
            Err(trouble) if errno::is_shortage(trouble.errno) && !self.hurries => {
                if !was_short {
                    warn!("cannot open {}: {}; output for it waits", self.name, trouble.why);
                }
                self.short_until = Some(Mono::default());
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn open(&mut self) -> Result<(), Trouble> {
        if !self.is_closed() {
            return Ok(());
        }
        let ids = match self.ids.take() {
            Some(ids) => ids,
            None => {
                resolved(&self.file).map_err(|failure| Trouble { errno: failure.errno, why: failure.to_string() })?
            }
        };
        let (path, ids) = (Path::new(&*self.name), &*self.ids.insert(ids));
        let file = append::open(path, ids).or_else(|error| {
            let missing = path.parent().filter(|_| error.kind() == ErrorKind::NotFound);
            let Some(directory) = missing else { return Err(Trouble::of(&error)) };
            let mode = if self.file.ours { OUR_DIRECTORY_MODE } else { DIRECTORY_MODE };
            append::make_directory(directory, ids, mode).map_err(|error| {
                let Trouble { errno, why } = Trouble::of(&error);
                Trouble { errno, why: format!("its directory cannot be made: {why}") }
            })?;
            append::open(path, ids).map_err(|error| Trouble::of(&error))
        })?;
        if self.turns.is_some() {
            self.mid_line = turn::is_mid_line(path, &file, ids);
        }
        self.way = Way::File(file);
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.way {
            Way::Out(out) => out.offer(bytes),
            Way::File(file) => file.write(bytes),
            Way::Closed => Ok(0),
        }
    }

    fn drop(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.loss.add(bytes);
        // Who comes next begins a line of his own, and does not go on with half of one.
        let is_torn = self.kept.last().map_or(self.mid_line, |last| *last != b'\n');
        self.open_line = is_torn.then_some(NOBODY);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    /// A directory of this test's own, and the sink of a file in it.
    fn sink(name: &str, user: Option<&str>) -> (std::path::PathBuf, Sink) {
        let dir = std::env::temp_dir().join(format!("pm3-sink-{}-{name}", std::process::id()));
        let path = dir.join("logs").join("a.log");
        fs::create_dir(&dir).unwrap();
        let user = user.map(Into::into);
        (dir, Sink::file(&LogFile { path: path.to_string_lossy().into(), user, ..LogFile::default() }))
    }

    #[test]
    fn a_file_of_somebody_unknown_is_opened_as_nobody_else() {
        let (dir, mut sink) = sink("unknown", Some("no such user"));
        sink.rotate(Some(&LogRotate::default()));
        sink.prepare();
        sink.take(0, b"secret\n", Mono(1));
        // It has no old files that anybody could see to, and is forgotten when nobody writes to it.
        assert!(sink.is_idle() && !sink.has_chores());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert!(sink.trouble(false).unwrap().ends_with("no such user in /etc/passwd"), "{:?}", sink.trouble(false));
        assert_eq!(sink.loss.sum(), (1, 7));
        assert!(sink.has_room(false));
        // Once it is known who that is, it goes on.
        sink.file.user = None;
        sink.take(0, b"line\n", Mono(2));
        assert_eq!(fs::read(dir.join("logs/a.log")).unwrap(), b"line\n");
        assert_eq!((sink.trouble(false), sink.loss.sum()), (None, (0, 0)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_line_that_was_torn_is_ended_before_another_begins() {
        let (dir, mut sink) = sink("torn", None);
        let now = Mono(1);
        sink.take(7, b"half a ", now);
        sink.stuck = true;
        sink.take(7, b"line\n", now);
        sink.stuck = false;
        sink.take(7, b"whole\n", now);
        sink.take(7, b"more\n", now);
        assert_eq!(fs::read(dir.join("logs/a.log")).unwrap(), b"half a \nwhole\nmore\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
