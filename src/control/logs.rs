//! The protocol's part about output: what a client may ask for, and what it is answered with, line by line. Init checks who
//! asks and what the targets are, and hands the connection over to the logger; it never sees an answer.
//!
//! The answer to [`Request::Logs`](super::Request::Logs) is a stream of [`Event`]s, each in a
//! [`Reply::Log`](super::Reply::Log): the lines that are remembered, the oldest first; with `follow` a `Live`, and then
//! what comes, until there is nothing left that could come. At last, and where targets are wrong at once, there is an
//! [`Reply::Outcome`](super::Reply::Outcome), and the connection is closed.

use serde::{Deserialize, Serialize};

/// What of the output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// Names, namespaces, ids; none: all there are, and those that come later too.
    pub targets: Vec<Box<str>>,
    /// So many of the remembered lines of each app, the newest; None: all that are remembered.
    pub lines: Option<u32>,
    /// And what is written from now on.
    pub follow: bool,
    /// Of this stream alone.
    pub stream: Option<Stream>,
    /// Written at this moment or later, in milliseconds of Unix time.
    pub since_ms: u64,
}

/// Which of an app's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Out,
    Err,
}

impl Stream {
    /// The word that JSON lines use.
    pub fn word(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}

/// What is told of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Line(Line),
    /// So many lines are missing here: the reader was slower than those who write.
    Missed {
        lines: u64,
    },
    /// What this instance writes does not arrive where it is to go, and why: `cannot write to /log/web.log: no space left on
    /// device`. Told first.
    Lost {
        app: Box<str>,
        id: u32,
        why: Box<str>,
    },
    /// What is remembered has been told; what follows is new.
    Live,
    /// The app, or this instance of it, was deleted: nothing more comes of it.
    Deleted {
        app: Box<str>,
        id: u32,
    },
}

/// A line of an app's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// When it came, in milliseconds of Unix time.
    pub time_ms: u64,
    pub app: Box<str>,
    /// The instance's id.
    pub id: u32,
    pub stream: Option<Stream>,
    /// What is no UTF-8 is replaced.
    pub text: Box<str>,
}
