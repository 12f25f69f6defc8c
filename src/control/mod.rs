//! The protocol between pm3 and its clients: what may be asked, what is answered, and every limit of both.
//!
//! One JSON object a line, over a Unix stream socket, so that a person with `socat` can take part:
//!
//! ```text
//! $ echo '{"version":1,"ask":"list"}' | socat - UNIX:/run/pm3/control.sock
//! {"version":1,"reply":"list","rows":[{"id":0,"name":"web","status":"online", …}]}
//! ```
//!
//! The first line each way carries the protocol's version; later ones may. A client asks, waits for the one reply,
//! and may ask again. What is no request gets one error reply, then the connection is closed. Unknown fields are
//! ignored and missing ones have defaults, so that fields can be added without a new version.
//!
//! `place` says where the socket is, `codec` turns bytes into lines and lines into meaning, `client` is the asking
//! side; init's side is `engine::server`. Nothing here touches processes, and only `client` does I/O.

pub mod client;
pub mod codec;
pub mod place;

use serde::{Deserialize, Serialize};

use crate::supervisor::event::{Outcome, Verb};
use crate::supervisor::spec::Right;

/// The versions of the protocol that this pm3 speaks, newest first.
pub const VERSIONS: &[u32] = &[1];

/// What a supervisor sends to whoever started it and waits, once it can be asked; or because another one can be, and it
/// leaves. The end of file without either means that it could not work.
pub const READY: u8 = b'r';
pub const TAKEN: u8 = b't';

/// How much of everything there may be, and why.
pub mod limits {
    /// Bytes in a line that a client sends. A thousand targets with long names fit; a client that sends more without
    /// a newline is not speaking this protocol.
    pub const REQUEST_MAX: usize = 64 << 10;

    /// Bytes in a line that pm3 sends. A row takes about 250, so this lists some 16,000 instances. No client holds
    /// more than one reply: the next request is not read before the last reply is.
    pub const REPLY_MAX: usize = 4 << 20;

    /// Bytes of replies that wait for their readers, all clients together: PID 1 may live in 16 MB. Above it, those
    /// who have not read for longest are cut off.
    pub const UNREAD_MAX: usize = 8 << 20;

    /// Clients at once. Clients are short-lived; what stays for longer is a monitor or two. Each costs a file
    /// descriptor, which apps need more.
    pub const CLIENTS_MAX: usize = 64;

    /// Clients at once with one uid, so that no uid can have them all.
    pub const CLIENTS_PER_UID_MAX: usize = 32;

    /// New clients in one wake-up: a flood of them must not keep pm3 from reaping. Half of what one uid may have, so
    /// that a newcomer gets a turn to speak before those after it can take its place.
    pub const ACCEPTS_PER_TURN: usize = CLIENTS_PER_UID_MAX / 2;

    /// Bytes read from one client in one wake-up, for the same reason.
    pub const READ_PER_TURN: usize = 16 << 10;
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    /// Who is there?
    Ping,
    /// All instances.
    List,
    /// Start, stop or restart existing apps. Each target is a name, a namespace, an id or `all`.
    Operate { verb: Verb, targets: Vec<Box<str>> },
}

impl Request {
    /// The right that a client needs to ask this.
    pub fn needs(&self) -> Right {
        match self {
            Request::Ping | Request::List => Right::View,
            Request::Operate { .. } => Right::Operate,
        }
    }
}

/// What pm3 answers: one for each request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    Pong {
        /// The release that is running, as `pm3 --version` prints it.
        release: Box<str>,
        /// Its pid, as pm3 itself sees it.
        pid: u32,
    },
    List {
        rows: Vec<Row>,
    },
    Outcome(Outcome),
    Error(Refusal),
}

/// Why a request was not served, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub problem: Problem,
    pub why: Box<str>,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub hint: Box<str>,
}

/// The kinds of [`Refusal`], for a client's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// What came is no request. The connection is closed after it.
    Garbled,
    /// The client speaks another version. The connection is closed after it.
    Version,
    /// This user may not use the socket at all; said to it unasked, and the connection is closed.
    Stranger,
    /// This user may not ask that.
    NotAllowed,
    /// There are too many clients: nothing was done, the connection is closed, another try may do.
    Busy,
    /// The answer does not fit into a line.
    TooLong,
    /// A kind that this release does not know.
    #[serde(other)]
    Other,
}

/// One instance, as `list` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// PM2's `pm_id`.
    pub id: u32,
    /// The app's name, which its instances share.
    pub name: Box<str>,
    pub namespace: Box<str>,
    /// Of the app, as its package.json says; empty where that is not known.
    pub version: Box<str>,
    /// PM2's word: `fork` or `cluster`.
    pub mode: Box<str>,
    /// Its number within the app, `NODE_APP_INSTANCE`.
    pub index: u32,
    /// 0 without a process.
    pub pid: u32,
    /// PM2's word: `online`, `launching`, `stopping`, `stopped`, `errored`, `waiting restart`, or one of pm3's.
    pub status: Box<str>,
    /// How often a run followed another without an operator's doing (↺).
    pub restarts: u32,
    /// How long it has been online; 0 while it is not.
    pub uptime_ms: u64,
    /// Private memory of the whole tree when it was asked for, in bytes.
    pub memory_bytes: u64,
    /// Percent of one CPU, where it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// The name or number of the user that it runs as.
    pub user: Box<str>,
    /// It is restarted when its files change.
    pub watching: bool,
    /// Why its last run ended or did not start; empty where there is nothing to say.
    pub reason: Box<str>,
    /// `max_memory_restart` in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}
