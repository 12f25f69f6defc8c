//! One stream of one run: its pipe, the line that has begun, and the form that its lines get. It reads when it is told
//! to, and says what is to be written; where that goes is not its affair.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use log::warn;

use super::journal::Rest;
use super::lines::{self, Line, Splitter};
use super::search::{Look, Search};
use super::stamp::Stamp;
use crate::control::logs::Stream;
use crate::control::role::Known;
use crate::supervisor::event::{InstanceId, RunId};
use crate::supervisor::spec::LogMode;
use crate::sys::fds::{self, Glass};
use crate::sys::{errno, why};

/// Bytes read from a stream before it is the next one's turn: what a pipe holds.
pub(super) const CHUNK: usize = 64 << 10;

/// Bytes that may become of what is given its form at once: what stands in front of lines is much where lines are empty. So
/// of a form with much in front of a line less is taken at once.
const FORMED_MAX: usize = 512 << 10;

/// When there are so many, they are written before more of what was read gets its form: most of what is read at once has
/// room, in any form.
const FORMED_ENOUGH: usize = 80 << 10;

/// But so much at least.
pub(super) const PIECE_LEAST: usize = 1 << 10;

/// Colours of the two streams in a prefix, as PM2's.
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Whose output it is.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) run: RunId,
    pub(super) id: InstanceId,
    pub(super) app: Box<str>,
    pub(super) pid: u32,
    pub(super) stream: Stream,
}

/// What all prefixes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The form of output that has none of its own.
    pub(super) usual: LogMode,
    /// Characters of the longest name.
    pub(super) width: usize,
    /// In colour, where that can be seen.
    pub(super) color: bool,
}

/// What bounds a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of a line as it is written, at most.
    pub(super) line_max: Option<usize>,
    /// Its app may write so much in a time and no more.
    pub(super) is_rated: bool,
    /// It waits where nothing is taken.
    pub(super) waits: bool,
    /// What is read of it is in its pipe until it is written.
    pub(super) lossless: bool,
}

impl Bounds {
    pub(super) fn of(known: &Known) -> Bounds {
        Bounds {
            line_max: known.line_max.and_then(|most| most.try_into().ok()),
            is_rated: known.rate.is_some(),
            waits: known.blocks,
            lossless: known.lossless,
        }
    }

    /// Its lines are looked at one by one, and end where they are cut.
    pub(super) fn are_of_lines(self) -> bool {
        self.line_max.is_some() || self.is_rated
    }
}

/// The form of a line, with what stands in front of it.
#[derive(Debug)]
enum Form {
    Raw,
    Prefix(Vec<u8>),
    /// What a JSON line says before the message.
    Json(Vec<u8>),
}

/// What stands in front of each line, in JSON all that comes before the message.
#[derive(Debug, Default)]
struct Front {
    bytes: Vec<u8>,
    /// When that was, in milliseconds of Unix time.
    unix_ms: Option<u64>,
}

impl Front {
    /// Made anew only as time goes on: in a millisecond a stream may be read a hundred times.
    fn at(&mut self, time: &Stamp, form: &Form, date: Option<&str>) -> &[u8] {
        if self.unix_ms != Some(time.unix_ms) {
            let date = date.map(|format| time.dated(format)).unwrap_or_default();
            self.bytes = match form {
                Form::Raw => date.into_bytes(),
                Form::Prefix(prefix) => [prefix, date.as_bytes()].concat(),
                Form::Json(head) => lines::json_front(&time.iso(), head),
            };
            self.unix_ms = Some(time.unix_ms);
        }
        &self.bytes
    }
}

/// Is shown lines, and says which are to be written.
pub(super) type Judge<'a> = dyn FnMut(Line<'_>) -> bool + 'a;

/// One stream of one run.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) whose: Whose,
    pipe: File,
    splitter: Splitter,
    /// How much of the line that has begun is written already.
    passed: usize,
    /// As the app wants it.
    mode: LogMode,
    date: Option<Box<str>>,
    pub(super) bounds: Bounds,
    form: Form,
    front: Front,
    /// Bytes that are given their form at once.
    piece: usize,
    /// What was read and has none yet.
    held: Vec<u8>,
    /// Bytes that are read at once: as many as got their form at once lately, so that little is held.
    at_once: usize,
    /// The sink that it goes to, and the one that it goes to as well.
    sink: usize,
    beside: Option<usize>,
    /// There may be something to read.
    pub(super) ready: bool,
    /// The run has ended: when the pipe is empty, a line that has begun has ended too.
    pub(super) over: bool,
    /// So many bytes in the pipe are written, or will be without it: they are to be taken out of it.
    pub(super) owed: Option<usize>,
    /// Its place in the journal.
    pub(super) place: Option<usize>,
    /// The text that makes its run ready, while somebody waits for that.
    search: Option<Search>,
    /// The beginning of what comes next was passed on unread.
    torn: bool,
    /// How often its pipe was found full without being empty meanwhile, and whether it has more room than others.
    pub(super) full: u32,
    pub(super) is_large: bool,
}

/// What came of reading a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes.
    Some(usize),
    /// There is nothing now.
    Empty,
    /// There will be nothing any more.
    End,
    /// The text that makes its run ready, which stays where it is.
    Found,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl Source {
    pub(super) fn new(whose: Whose, pipe: OwnedFd, mode: LogMode, date: Option<Box<str>>, sink: usize) -> Source {
        Source {
            whose,
            pipe: pipe.into(),
            splitter: Splitter::default(),
            passed: 0,
            mode,
            date,
            bounds: Bounds::default(),
            form: Form::Raw,
            front: Front::default(),
            piece: CHUNK,
            held: Vec::new(),
            at_once: CHUNK / 2,
            sink,
            beside: None,
            ready: true,
            over: false,
            owed: None,
            place: None,
            search: None,
            torn: false,
            full: 0,
            is_large: false,
        }
    }

    /// Looks for the text that makes its run ready, in what is read from now on.
    pub(super) fn look_for(&mut self, text: &str) {
        self.search = Some(Search::new(text));
    }

    /// Nobody waits any more until its run is ready.
    pub(super) fn look_no_more(&mut self) {
        // What has been left in the pipe for that is read now.
        self.ready |= self.search.take().is_some();
    }

    /// Init has to be told that its run is ready. Until then nothing is read.
    pub(super) fn has_found(&self) -> bool {
        self.search.as_ref().is_some_and(Search::has_found)
    }

    /// There may be something to read, and nothing to be told before; or what was written is to be taken out of the pipe.
    pub(super) fn may_be_read(&self) -> bool {
        self.ready && !self.has_found() || self.owed.is_some()
    }

    /// It goes to this sink as well.
    pub(super) fn also_to(&mut self, sink: Option<usize>) {
        self.beside = sink;
    }

    /// What it writes goes as it is.
    pub(super) fn is_as_it_is(&self) -> bool {
        matches!(self.form, Form::Raw) && self.date.is_none() && !self.bounds.are_of_lines()
    }

    /// The only sink of what can go there unread: nothing is looked for in it, and all that was read is written.
    pub(super) fn is_unseen(&self) -> Option<usize> {
        let is_written = self.splitter.begun().len() == self.passed && self.held.is_empty();
        (self.is_as_it_is() && is_written && self.search.is_none() && self.beside.is_none()).then_some(self.sink)
    }

    /// Some of it has been passed on unread.
    pub(super) fn passed_on(&mut self) {
        self.splitter.forget();
        (self.passed, self.torn) = (0, true);
    }

    /// Where it goes.
    pub(super) fn sinks(&self) -> impl Iterator<Item = usize> + use<> {
        [self.sink].into_iter().chain(self.beside)
    }

    /// Reads what is there, as far as `chunk` has room; first comes what is held. With a `glass`, what may be the text that
    /// makes its run ready is left where it is.
    pub(super) fn read(&mut self, chunk: &mut [u8], glass: Option<&Glass>) -> Piece {
        if !self.held.is_empty() {
            let held = self.take_held();
            // It came from there.
            chunk.get_mut(..held.len()).into_iter().for_each(|room| room.copy_from_slice(&held));
            return Piece::Some(held.len());
        }
        let most = match self.most(self.at_once.min(chunk.len()), chunk, glass) {
            Ok(most) => most,
            Err(piece) => return piece,
        };
        let chunk = chunk.get_mut(..most).unwrap_or_default();
        loop {
            match self.pipe.read(chunk) {
                Ok(0) => return Piece::End,
                Ok(count) => return Piece::Some(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Piece::Empty,
                Err(_) => return Piece::End,
            }
        }
    }

    /// How much can be read at once, if anything.
    fn most(&mut self, most: usize, chunk: &mut [u8], glass: Option<&Glass>) -> Result<usize, Piece> {
        let (Some(search), Some(glass)) = (&mut self.search, glass) else { return Ok(most) };
        match search.look(&self.pipe, glass, chunk.get_mut(..most).unwrap_or_default()) {
            Look::Take(count) => Ok(count),
            Look::Found => Err(Piece::Found),
            Look::Wait => Err(Piece::Empty),
            Look::Blind => {
                self.look_no_more();
                Ok(most)
            }
        }
    }

    /// As `read`, of what stays in the pipe: seen through `own`.
    pub(super) fn look(&mut self, chunk: &mut [u8], glass: Option<&Glass>, own: &Glass) -> Piece {
        let most = match self.most(self.piece.min(chunk.len()), chunk, glass) {
            Ok(most) => most,
            Err(piece) => return piece,
        };
        let there = fds::unread(&self.pipe);
        let mut found = own.look(&self.pipe, chunk.get_mut(..most).unwrap_or_default());
        // The first line as a whole, if that is possible.
        let is_begun = |found: &io::Result<usize>| {
            found.as_ref().is_ok_and(|count| *count < there && !chunk.iter().take(*count).any(|byte| *byte == b'\n'))
        };
        if self.search.is_none() && is_begun(&found) {
            found = own.look(&self.pipe, chunk);
        }
        match found {
            Ok(0) => Piece::End,
            Ok(count) => Piece::Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Piece::Empty,
            Err(error) => {
                warn!("logger: {} has no lossless output: {}", self.name(), why(errno::of(&error)));
                self.bounds.lossless = false;
                Piece::Found
            }
        }
    }

    /// As `form`, of bytes that are in the pipe still. How many of them are to be taken out of it when that is written.
    pub(super) fn form_kept(
        &mut self,
        seen: &[u8],
        alone: bool,
        rest: Rest,
        time: &Stamp,
        out: &mut Vec<u8>,
        judge: &mut Judge<'_>,
    ) -> usize {
        let (before, mut some) = (self.splitter.begun().len(), false);
        self.form(seen, alone, time, out, &mut |line| {
            some = true;
            judge(line)
        });
        if self.is_as_it_is() && alone {
            return seen.len();
        }
        let before = if some { 0 } else { before };
        let begun = self.splitter.begun().len() - before;
        match rest {
            Rest::Stays => {
                self.splitter.take_back(before);
                return seen.len() - begun;
            }
            Rest::IsOver => self.form_end(time, out, judge),
            Rest::IsCut => {
                let Source { splitter, passed, form, front, date, bounds, .. } = self;
                let front = front.at(time, form, date.as_deref());
                splitter.cut_off(&mut |line| {
                    if judge(line) {
                        write(out, form, front, line, std::mem::take(passed), *bounds);
                    }
                });
            }
        }
        seen.len()
    }

    /// Its name in a prefix.
    pub(super) fn name(&self) -> String {
        format!("{}|{}", self.whose.id, self.whose.app)
    }

    /// Gives its lines their form. `color`: the place that they go to shows colours.
    pub(super) fn shape(&mut self, style: Style, color: bool) {
        let mode = if self.mode == LogMode::Auto { style.usual } else { self.mode };
        self.form = match mode {
            LogMode::Prefix => {
                let name = format!("{:<width$} | ", self.name(), width = style.width);
                let start = if self.whose.stream == Stream::Out { GREEN } else { RED };
                let colored = style.color && color;
                Form::Prefix(if colored { format!("{start}{name}{PLAIN}") } else { name }.into_bytes())
            }
            LogMode::Json => {
                let Whose { id, app, pid, stream, .. } = &self.whose;
                Form::Json(lines::json_head(app, id.0, *pid, stream.word()))
            }
            LogMode::Auto | LogMode::Raw | LogMode::Inherit | LogMode::None => Form::Raw,
        };
        self.front = Front::default();
        let date = self.date.as_deref().map_or(0, |format| Stamp::now().dated(format).len());
        let head = match &self.form {
            Form::Raw => 0,
            Form::Prefix(head) => head.len(),
            Form::Json(head) => head.len() + lines::JSON_LEAST,
        };
        self.piece = match head + date {
            0 => CHUNK,
            // With the end of the line.
            front => (FORMED_MAX / (front + 1)).clamp(PIECE_LEAST, CHUNK),
        };
        if let Some(most) = self.bounds.line_max {
            // So that a long line is cut into pieces of about one length.
            self.splitter.limit(most.saturating_sub(head + date + lines::CUT.len() + 1));
        }
    }

    /// Appends to `out` what is to be written of these bytes, and shows each whole line to `judge`. `alone`: nobody else
    /// writes to the same place, so what is to be passed on as it is need not wait for the end of its line.
    pub(super) fn form(&mut self, chunk: &[u8], alone: bool, time: &Stamp, out: &mut Vec<u8>, judge: &mut Judge<'_>) {
        let is_as_it_is = self.is_as_it_is();
        // One by one only where each is judged by itself.
        let singly = self.torn || self.bounds.are_of_lines();
        let feed = if singly { Splitter::feed } else { Splitter::feed_together };
        // Of a line whose beginning nobody has seen, nobody sees the end.
        let torn = &mut self.torn;
        let judge = &mut |line: Line<'_>| {
            let is_torn = *torn;
            *torn &= line.is_cut;
            is_torn || judge(line)
        };
        if is_as_it_is && alone {
            out.extend_from_slice(self.splitter.begun().get(self.passed..).unwrap_or_default());
            out.extend_from_slice(chunk);
            feed(&mut self.splitter, chunk, &mut |line| _ = judge(line));
            self.passed = self.splitter.begun().len();
            return;
        }
        let Source { splitter, passed, form, front, date, bounds, .. } = self;
        let front = front.at(time, form, date.as_deref());
        feed(splitter, chunk, &mut |line| {
            if judge(line) {
                write(out, form, front, line, std::mem::take(passed), *bounds);
            }
        });
    }

    /// As `form`, until there is enough to be written; the rest is held.
    pub(super) fn form_some(
        &mut self,
        chunk: &[u8],
        alone: bool,
        time: &Stamp,
        out: &mut Vec<u8>,
        judge: &mut Judge<'_>,
    ) {
        let mut rest = chunk;
        while !rest.is_empty() && out.len() < FORMED_ENOUGH {
            let (part, after) = rest.split_at(self.piece.min(rest.len()));
            self.form(part, alone, time, out, judge);
            rest = after;
        }
        self.held = rest.into();
        let formed = chunk.len() - rest.len();
        // Lines become longer again some time.
        self.at_once = if rest.is_empty() { (self.at_once + PIECE_LEAST).min(CHUNK) } else { formed.max(PIECE_LEAST) };
    }

    /// What was read and has no form yet: `read` will not give it any more.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// As `form`, of the line that nobody will end.
    pub(super) fn form_end(&mut self, time: &Stamp, out: &mut Vec<u8>, judge: &mut Judge<'_>) {
        let Source { splitter, passed, form, front, date, bounds, torn, .. } = self;
        let front = front.at(time, form, date.as_deref());
        // What was passed on as it is stays so: without an end.
        let is_written = *passed > 0 && *passed == splitter.begun().len();
        splitter.end(&mut |line| {
            if (*torn || judge(line)) && !is_written {
                write(out, form, front, line, std::mem::take(passed), *bounds);
            }
        });
        *passed = 0;
    }
}

/// `passed`: so much of the line has been written already, as it is.
fn write(out: &mut Vec<u8>, form: &Form, front: &[u8], line: Line<'_>, passed: usize, bounds: Bounds) {
    match (form, bounds.line_max) {
        (Form::Raw, _) if passed > 0 || front.is_empty() && !bounds.are_of_lines() => {
            out.extend_from_slice(line.bytes.get(passed..).unwrap_or_default());
            // What is too long for a line goes on as it was.
            if !line.is_cut {
                out.push(b'\n');
            }
        }
        (Form::Raw | Form::Prefix(_), None) => lines::plain(out, front, line),
        (Form::Raw | Form::Prefix(_), Some(most)) => {
            lines::bounded(out, line, most, &|_| 1, &|out, line| lines::plain(out, front, line));
        }
        (Form::Json(_), None) => lines::json(out, front, line),
        (Form::Json(_), Some(most)) => {
            let width = lines::json_width(std::str::from_utf8(line.bytes).is_ok());
            lines::bounded(out, line, most, &width, &|out, line| lines::json(out, front, line));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_becomes_of_empty_lines_is_bounded() {
        for (mode, date) in [
            (LogMode::Json, None),
            (LogMode::Prefix, Some("[a long text that stands in front of every line of this app] YYYY-MM-DD")),
            (LogMode::Raw, None),
        ] {
            let (reader, writer) = fds::pipe().unwrap();
            assert_eq!(nix::unistd::write(&writer, &[b'\n'; CHUNK]).unwrap(), CHUNK);
            let whose = Whose { run: RunId(1), id: InstanceId(0), app: "app".into(), pid: 12, stream: Stream::Out };
            let mut source = Source::new(whose, reader, mode, date.map(Into::into), 0);
            source.shape(Style { usual: LogMode::Raw, width: 5, color: false }, false);
            let (mut chunk, mut lines) = (vec![0; CHUNK], 0);
            while let Piece::Some(count) = source.read(&mut chunk, None) {
                let mut out = Vec::new();
                let mut judge = |line: Line<'_>| {
                    lines += line.each().count();
                    true
                };
                source.form_some(chunk.get(..count).unwrap(), false, &Stamp::now(), &mut out, &mut judge);
                assert!(out.len() <= FORMED_ENOUGH + FORMED_MAX, "{mode:?}: {} bytes", out.len());
            }
            assert_eq!(lines, CHUNK, "{mode:?}");
        }
    }
}
