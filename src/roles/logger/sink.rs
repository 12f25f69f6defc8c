//! A place where output goes: pm3's own stdout or stderr, or a file. Writing never waits. What is not taken is kept, and
//! as long as something is kept, nobody reads more for this place: so who writes faster than it is read waits, as with any
//! pipe. But a place that has taken nothing for a while is stuck, and nobody waits for that: what is for it is dropped and
//! counted, until it takes something again, and then the count is told.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use log::warn;

use super::ids_of;
use crate::control::role::LogFile;
use crate::supervisor::event::Mono;
use crate::sys::out::Out;
use crate::sys::spawn::ids::Ids;
use crate::sys::{append, errno, why};

/// A place that has taken nothing for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Of pm3's own directory of log files: what apps write is not everybody's business.
const DIRECTORY_MODE: u32 = 0o750;

#[derive(Debug)]
enum Way {
    Out(Out),
    File(File),
    /// It could not be opened, or not yet.
    Closed,
}

/// A place where output goes.
#[derive(Debug)]
pub(super) struct Sink {
    /// A file's path; for messages.
    pub(super) name: Box<str>,
    /// As whom a file is opened; None: that was not to be found out, and is tried again.
    ids: Option<Ids>,
    file: LogFile,
    way: Way,
    /// Taken over and not written yet, from `written` on.
    kept: Vec<u8>,
    written: usize,
    /// Since when it has taken nothing of that.
    full_since: Option<Mono>,
    stuck: bool,
    /// The last try to write failed, which has been told.
    failing: bool,
    dropped: Dropped,
    /// Whose line it is that has been written without its end.
    open_line: Option<usize>,
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

    /// A file of the user with these ids, that is appended to. Where it cannot be opened, that is told, and tried again
    /// with everything that is to be written. Nor is it ever opened as somebody else, who may have more rights.
    pub(super) fn file(file: &LogFile, ids: Option<Ids>) -> Sink {
        Sink { ids, file: file.clone(), ..Sink::new(&file.path, Way::Closed) }
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
            failing: false,
            dropped: Dropped::default(),
            open_line: None,
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
        if matches!(self.way, Way::File(_)) {
            self.way = Way::Closed;
        }
    }

    /// Whether more can be taken over.
    pub(super) fn has_room(&self) -> bool {
        self.kept.is_empty() || self.stuck
    }

    /// When it will be stuck, if nothing changes.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.full_since.filter(|_| !self.stuck).map(|since| since.after(STUCK_AFTER))
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
        while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
            match self.write_some(rest) {
                Ok(0) => break,
                Ok(some) => {
                    count += some;
                    if std::mem::take(&mut self.failing) {
                        self.tell_dropped();
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.fd().is_some() => break,
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        let why = why(errno::of(&error));
                        warn!("cannot write to {}: {why}; output for it is dropped until that works", self.name);
                    }
                    self.drop(rest);
                    return bytes.len();
                }
            }
        }
        count
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.way, Way::Closed) {
            let path = Path::new(&*self.name);
            if let Some(directory) = path.parent().filter(|_| self.file.ours) {
                DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
            }
            let ids = match self.ids.take() {
                Some(ids) => ids,
                None => ids_of(&self.file).map_err(|_| append::not_permitted())?,
            };
            self.way = Way::File(append::open(path, self.ids.insert(ids))?);
        }
        match &mut self.way {
            Way::Out(out) => out.offer(bytes),
            Way::File(file) => file.write(bytes),
            Way::Closed => Ok(0),
        }
    }

    fn drop(&mut self, bytes: &[u8]) {
        self.dropped.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        self.dropped.bytes += bytes.len();
    }

    fn tell_dropped(&mut self) {
        let Dropped { lines, bytes } = std::mem::take(&mut self.dropped);
        if bytes > 0 {
            let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
            warn!("{}: {lines} of output ({bytes} bytes) were dropped", self.name);
        }
    }
}
