//! What init tells the helper processes that it starts, its roles: one JSON object a line, on a socket that only the two
//! of them have. What a role asks of init is a [`Request`](super::Request) as any client's, and answered by a
//! [`Reply`]; so a role reads both, as [`Heard`]. Pure data.
//!
//! A role that has just been started knows nothing: init tells it all that holds. So a role that dies costs no more than
//! the time until the next one is there, and init never waits for what a role makes of a line.

use serde::{Deserialize, Serialize};

use super::Reply;
use super::logs::{Query, Stream};
use crate::supervisor::event::{InstanceId, Millis, RunId};
use crate::supervisor::spec::{LogMode, LogRate, LogRotate};

/// Bytes of lines that wait for a role to read them. Room for some hundred of the longest; one that is further behind is
/// stuck, and is replaced.
pub const UNREAD_MAX: usize = 1 << 20;

/// What init tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tell {
    /// To every role: do what is left to do and end. Nothing comes after it.
    Finish,
    /// To the logger, before the first run whose output must not be lost: where it notes what it is about to write, for
    /// the one that comes after it. With three descriptors: a file in memory, and both ends of a pipe.
    Journal,
    /// To the logger, after that: all that holds has been told.
    Briefed,
    /// To the logger: the form of output that has none of its own.
    Usual { mode: LogMode },
    /// To the logger: an instance whose output is collected, before its first run, and again when it has changed.
    Know(Box<Known>),
    /// To the logger: the instance is gone for good.
    Forget { id: InstanceId },
    /// To the logger: a run of an instance that it knows. With two descriptors, the pipes that its stdout and its stderr
    /// are written into. `ready`: it is ready when this text stands in a line of it, which is to be told by
    /// [`Request::Ready`](super::Request::Ready).
    Open {
        run: RunId,
        id: InstanceId,
        pid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready: Option<Box<str>>,
    },
    /// To the logger: nobody waits any more until this run is ready.
    Enough { run: RunId },
    /// To the logger: the run has ended. What is in its pipes belongs to it still, and so does what processes that it
    /// left behind may write; but a line that has no end now will hardly get one.
    Over { run: RunId },
    /// To the logger: a client asks, and may. With one descriptor, its connection.
    Serve(Box<Served>),
    /// To the logger: this text stands in this file, and after it are to stand the last lines of the instance that has failed,
    /// as far as whoever looks there reads; again before the logger ends, when all lines have come. None: nothing more.
    Leave { path: Box<str>, text: Box<str>, id: Option<InstanceId> },
    /// To the watcher: these apps are watched from now on, and no others.
    Watch { apps: Vec<Watched> },
}

/// An instance whose output is collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    pub id: InstanceId,
    /// The app's name.
    pub app: Box<str>,
    /// The form that its lines get.
    pub mode: LogMode,
    /// In front of each line, in this format (`config::date`).
    pub date: Option<Box<str>>,
    /// Bytes of recent lines to remember, of all of the app's instances together.
    pub memory: u32,
    /// How its files are rotated; None: they are not.
    pub rotate: Option<Box<LogRotate>>,
    /// The most lines of all of the app's instances together.
    pub rate: Option<LogRate>,
    /// Bytes of a line as it is written, at most; None: as of [`Rare::LOG_TEXT`](crate::supervisor::spec::Rare::LOG_TEXT).
    pub line_max: Option<u32>,
    /// It waits where nothing is taken, and nothing is dropped there.
    pub blocks: bool,
    /// What a logger that is killed has not written is left to the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lossless: bool,
    /// Where its stdout goes; None: to init's own.
    pub out: Option<LogFile>,
    /// The same of its stderr.
    pub err: Option<LogFile>,
    /// Where both go, beside those or as one of them.
    pub both: Option<LogFile>,
}

impl Known {
    /// Where this stream goes; None: to init's own.
    pub fn file(&self, stream: Stream) -> Option<&LogFile> {
        match stream {
            Stream::Out => self.out.as_ref(),
            Stream::Err => self.err.as_ref(),
        }
    }

    /// Where this stream goes as well.
    pub fn beside(&self, stream: Stream) -> Option<&LogFile> {
        self.both.as_ref().filter(|both| self.file(stream) != Some(both))
    }

    /// All its files, each once.
    pub fn files(&self) -> impl Iterator<Item = &LogFile> {
        let err = self.err.as_ref().filter(|err| self.out.as_ref() != Some(err));
        let both =
            self.both.as_ref().filter(|both| [&self.out, &self.err].iter().all(|own| own.as_ref() != Some(both)));
        self.out.iter().chain(err).chain(both)
    }
}

/// A file that output goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFile {
    /// Absolute, and the instance's own where instances do not share it.
    pub path: Box<str>,
    /// Whose file it is, by names or numbers; None: init's own user's.
    pub user: Option<Box<str>>,
    pub group: Option<Box<str>>,
    /// It is in pm3's own directory, which is made where it is missing.
    pub ours: bool,
}

/// A client that the logger is to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    pub ask: Ask,
    pub of: Targets,
}

/// What a client asks of the logger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    Read(Query),
    /// Empty files and forget lines.
    Flush,
    /// Open files again under their names.
    Reopen,
}

/// Whose output is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// Everybody's, and later ones' too.
    pub all: bool,
    /// All instances of these apps, later ones too; sorted.
    pub apps: Vec<Box<str>>,
    /// Sorted, too: the logger asks for each line.
    pub ids: Vec<InstanceId>,
}

impl Targets {
    pub fn has(&self, app: &str, id: InstanceId) -> bool {
        let is_named = || self.apps.binary_search_by(|name| (**name).cmp(app)).is_ok();
        self.all || self.ids.binary_search(&id).is_ok() || is_named()
    }
}

/// An app that is watched, and what of its files matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    pub name: Box<str>,
    /// The directory that it runs in, absolute. Relative paths and patterns start there.
    pub cwd: Box<str>,
    /// As of [`Watch`](crate::supervisor::spec::Watch).
    pub paths: Box<[Box<str>]>,
    pub ignore: Box<[Box<str>]>,
    pub delay: Millis,
    /// Its own log files, as configured; those of single instances are named after them. A directory is logs alone.
    pub logs: Box<[Box<str>]>,
}

/// A line from init, as a role reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Told(Tell),
    Replied(Reply),
}
