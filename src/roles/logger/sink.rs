//! A place where output goes: pm3's own stdout or stderr, or a file. Writing never waits. What is not taken is kept, and
//! as long as something is kept, nobody reads more for this place: so who writes faster than it is read waits, as with any
//! pipe. But a place that has taken nothing for a while is stuck, and nobody waits for that: what is for it is dropped and
//! counted, until it takes something again, and then the count is told.
//!
//! A file that cannot be opened is the same: what is for it is dropped and counted, and each time it is tried again. Only
//! where there is no descriptor or no memory for it now nothing is dropped, as that passes: then those who write wait.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use log::warn;

use super::resolved;
use crate::control::role::LogFile;
use crate::supervisor::event::Mono;
use crate::sys::out::Out;
use crate::sys::spawn::ids::Ids;
use crate::sys::{append, errno, why};

/// A place that has taken nothing for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How often it is tried to open a file for which there was no descriptor or no memory.
const RETRY_AFTER: Duration = Duration::from_millis(500);

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
    /// Since when it has taken nothing of that.
    full_since: Option<Mono>,
    stuck: bool,
    /// Why the last try to write failed, which has been told.
    failing: Option<Box<str>>,
    /// There was no descriptor or no memory to open it: when that is tried again.
    short_until: Option<Mono>,
    /// Nobody has time any more to wait for that.
    hurries: bool,
    dropped: Dropped,
    /// Whose line it is that has been written without its end.
    open_line: Option<usize>,
    /// The last byte that was written is no end of a line.
    mid_line: bool,
    /// How many streams go here.
    pub(super) users: usize,
}

/// What was not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    lines: usize,
    bytes: usize,
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
            full_since: None,
            stuck: false,
            failing: None,
            short_until: None,
            hurries: false,
            dropped: Dropped::default(),
            open_line: None,
            mid_line: false,
            users: 0,
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

    /// Opens a file before there is anything to write, so that it is there, or said at once why not.
    pub(super) fn prepare(&mut self) {
        if !self.is_closed() {
            return;
        }
        match self.open() {
            Ok(()) => {
                self.failing = None;
                self.tell_dropped();
            }
            Err(trouble) if errno::is_shortage(trouble.errno) => {}
            Err(trouble) => self.fails(&trouble.why),
        }
    }

    /// There was no descriptor or no memory for it, and something waits for it.
    pub(super) fn is_short(&self) -> bool {
        self.short_until.is_some()
    }

    /// Why output does not arrive there.
    pub(super) fn trouble(&self) -> Option<String> {
        let name = &self.name;
        match &self.failing {
            Some(why) => Some(format!("cannot write to {name}: {why}")),
            None if self.stuck => Some(format!("{name} takes nothing")),
            None => None,
        }
    }

    /// Whether it is of no use to anybody who does not write to it.
    pub(super) fn is_idle(&self) -> bool {
        self.users == 0 && self.kept.is_empty()
    }

    /// pm3 ends: what waits for better times has none.
    pub(super) fn hurry(&mut self) {
        self.hurries = true;
    }

    /// Whether more can be taken over.
    pub(super) fn has_room(&self) -> bool {
        self.kept.is_empty() || self.stuck
    }

    /// When it will be stuck, if nothing changes.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.short_until.or_else(|| self.full_since.filter(|_| !self.stuck).map(|since| since.after(STUCK_AFTER)))
    }

    /// Takes bytes of the stream `whose` over, if there is room; else they are dropped.
    pub(super) fn take(&mut self, whose: usize, bytes: &[u8], now: Mono) {
        if bytes.is_empty() {
            return;
        }
        if self.stuck {
            return self.drop(bytes);
        }
        let before = std::mem::replace(&mut self.open_line, (!bytes.ends_with(b"\n")).then_some(whose));
        // Another's unfinished line ends here, so that no two are mixed.
        if before.is_some_and(|other| other != whose) {
            self.kept.push(b'\n');
        }
        if self.kept.is_empty() {
            let count = self.write(bytes);
            self.kept.extend_from_slice(bytes.get(count..).unwrap_or_default());
        } else {
            self.kept.extend_from_slice(bytes);
            self.written += self.write_kept();
        }
        self.look(false, now);
    }

    /// Writes what was kept, as much as is taken now.
    pub(super) fn go_on(&mut self, now: Mono) {
        if !self.kept.is_empty() {
            let count = self.write_kept();
            self.written += count;
            self.look(count > 0, now);
        }
    }

    /// Ends waiting for what is kept.
    pub(super) fn give_up(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.drop(kept.get(self.written..).unwrap_or_default());
        (self.written, self.full_since) = (0, None);
        self.tell_dropped();
    }

    fn write_kept(&mut self) -> usize {
        let kept = std::mem::take(&mut self.kept);
        let count = self.write(kept.get(self.written..).unwrap_or_default());
        self.kept = kept;
        count
    }

    /// What follows from how much is kept.
    fn look(&mut self, went_on: bool, now: Mono) {
        if went_on {
            self.full_since = None;
            if std::mem::take(&mut self.stuck) {
                self.tell_dropped();
            }
        }
        if self.short_until.is_some() {
            // Not its own fault.
            self.short_until = Some(now.after(RETRY_AFTER));
            return;
        }
        if self.written >= self.kept.len() {
            // It may be large, and is needed seldom.
            (self.kept, self.written, self.full_since) = (Vec::new(), 0, None);
            return;
        }
        let since = *self.full_since.get_or_insert(now);
        if !self.stuck && since.after(STUCK_AFTER) <= now {
            self.stuck = true;
            warn!("{} takes nothing; output for it is dropped until it does", self.name);
        }
    }

    /// How much was taken. What an error keeps from being written is dropped, and counts as taken.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        match self.is_open() {
            Ok(true) => {}
            Ok(false) => return 0,
            Err(trouble) => {
                self.fails(&trouble.why);
                self.drop(bytes);
                return bytes.len();
            }
        }
        while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
            match self.write_some(rest) {
                Ok(0) => break,
                Ok(some) => {
                    count += some;
                    self.mid_line = bytes.get(count.saturating_sub(1)) != Some(&b'\n');
                    if self.failing.take().is_some() {
                        self.tell_dropped();
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.fd().is_some() => break,
                Err(error) => {
                    self.fails(&why(errno::of(&error)));
                    self.drop(rest);
                    return bytes.len();
                }
            }
        }
        count
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
        self.way = Way::File(file);
        Ok(())
    }

    /// Says so, once.
    fn fails(&mut self, why: &str) {
        if self.failing.is_none() {
            warn!("cannot write to {}: {why}; output for it is dropped until that works", self.name);
        }
        self.failing = Some(why.into());
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.way {
            Way::Out(out) => out.offer(bytes),
            Way::File(file) => file.write(bytes),
            Way::Closed => Ok(0),
        }
    }

    fn drop(&mut self, bytes: &[u8]) {
        self.dropped.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        self.dropped.bytes += bytes.len();
        // Who comes next begins a line of his own, and does not go on with half of one.
        let is_torn = self.kept.last().map_or(self.mid_line, |last| *last != b'\n');
        self.open_line = is_torn.then_some(NOBODY);
    }

    fn tell_dropped(&mut self) {
        let Dropped { lines, bytes } = std::mem::take(&mut self.dropped);
        if bytes > 0 {
            let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
            warn!("{}: {lines} of output ({bytes} bytes) were dropped", self.name);
        }
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
        sink.prepare();
        sink.take(0, b"secret\n", Mono(1));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert!(sink.trouble().unwrap().ends_with("no such user in /etc/passwd"), "{:?}", sink.trouble());
        assert_eq!(sink.dropped, Dropped { lines: 1, bytes: 7 });
        assert!(sink.has_room());
        // Once it is known who that is, it goes on.
        sink.file.user = None;
        sink.take(0, b"line\n", Mono(2));
        assert_eq!(fs::read(dir.join("logs/a.log")).unwrap(), b"line\n");
        assert_eq!((sink.trouble(), sink.dropped), (None, Dropped::default()));
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
