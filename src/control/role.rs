//! What init tells the helper processes that it starts, its roles: one JSON object a line, on a socket that only the two
//! of them have. What a role asks of init is a [`Request`](super::Request) as any client's, and answered by a
//! [`Reply`]; so a role reads both, as [`Heard`]. Pure data.
//!
//! A role that has just been started knows nothing: init tells it all that holds. So a role that dies costs no more than
//! the time until the next one is there, and init never waits for what a role makes of a line.

use serde::{Deserialize, Serialize};

use super::Reply;
use crate::supervisor::event::{InstanceId, Millis, RunId};
use crate::supervisor::spec::{LogMode, Output};

/// Bytes of lines that wait for a role to read them. Room for some hundred of the longest; one that is further behind is
/// stuck, and is replaced.
pub const UNREAD_MAX: usize = 1 << 20;

/// What init tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "lowercase")]
pub enum Tell {
    /// To every role: do what is left to do and end. Nothing comes after it.
    Finish,
    /// To the logger: a run's output. With two descriptors, the pipes that its stdout and its stderr are written into.
    Open(Box<Opened>),
    /// To the logger: the run has ended. What is in its pipes belongs to it still, and so does what processes that it
    /// left behind may write; but a line that has no end now will hardly get one.
    Over { run: RunId },
    /// To the watcher: these apps are watched from now on, and no others.
    Watch { apps: Vec<Watched> },
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
    /// Its own log files, as configured; those of single instances are named after them.
    pub logs: Box<[Box<str>]>,
}

/// A run whose output is to be collected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {
    pub run: RunId,
    pub id: InstanceId,
    /// The app's name.
    pub app: Box<str>,
    pub pid: u32,
    /// The form that the output gets: never `Inherit` and never `None`.
    pub mode: LogMode,
    /// Where it goes. Paths are absolute, and an instance's own.
    pub output: Output,
    /// Whose files they are: names or numbers; None: init's own user.
    pub user: Option<Box<str>>,
    pub group: Option<Box<str>>,
}

/// A line from init, as a role reads it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Heard {
    Told(Tell),
    Replied(Reply),
}
