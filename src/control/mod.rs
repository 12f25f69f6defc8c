//! The protocol between pm3 and its clients: what may be asked, what is answered, and every limit of both.
//!
//! One JSON object a line, over a Unix stream socket, so that a person with `socat` can take part:
//!
//! ```text
//! $ echo '{"version":1,"ask":"list"}' | socat - UNIX:/run/pm3/control.sock
//! {"version":1,"reply":{"list":{"rows":[{"id":0,"name":"web","status":"online", …}]}}}
//! ```
//!
//! The first line each way carries the protocol's version; later ones may. A client asks, waits for the one reply,
//! and may ask again. What needs more than its word has that in an object of its own:
//! `{"ask":{"operate":{"verb":"stop","targets":["web"]}}}`. What is no request gets one error reply, then the connection is
//! closed. Unknown fields are ignored and missing ones have defaults, so that fields can be added without a new version.
//!
//! Who writes `"progress":true` beside its `ask` hears what happens before the reply, as it happens. Who does not read as
//! fast as that misses some of it, and nothing else:
//!
//! ```text
//! {"version":1,"progress":true,"ask":{"operate":{"verb":"reload","targets":["web"]}}}
//! {"version":1,"reply":{"progress":{"of":4,"over":0,"step":"starts","id":0,"app":"web","text":"starting a new …","after":0}}}
//! {"version":1,"reply":{"progress":{"of":4,"over":1,"step":"done","id":0,"app":"web","after":1312}}}
//! ```
//!
//! `place` says where the socket is, `codec` turns bytes into lines and lines into meaning, `client` is the asking
//! side; init's side is `engine::server`. `role` is what init tells the helper processes that it starts. Nothing here
//! touches processes, and only `client` does I/O.

pub mod client;
pub mod codec;
pub mod logs;
pub mod place;
pub mod role;

use serde::{Deserialize, Serialize};

pub use crate::supervisor::event::Count;
use crate::supervisor::event::{Mono, Outcome, Progress, Rollout, RunId, Sig, Verb};
use crate::supervisor::packing;
use crate::supervisor::spec::{AppSpec, Right};

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

    /// Targets of one request: as many as there can be instances.
    pub const TARGETS_MAX: usize = crate::supervisor::spec::INSTANCES_MAX as usize;

    /// Bytes in a line of a client with the right to `admin`, which may bring a thousand apps.
    pub const ADMIN_REQUEST_MAX: usize = crate::supervisor::spec::PACKED_MAX;

    /// Bytes of requests that have not wholly come, all clients together. Above it, those who have been quiet for longest
    /// are cut off.
    pub const UNFINISHED_MAX: usize = 4 << 20;

    /// Bytes of a text for an app's stdin. With its newline it fits into a pipe as a whole, or it waits outside: more
    /// than this could be cut in the middle (`PIPE_BUF`, pipe(7)).
    pub const TEXT_MAX: usize = 4_095;

    /// Bytes in a line that pm3 sends. A row takes about 350, so this lists some 12,000 instances. No client holds
    /// more than one reply: the next request is not read before the last reply is.
    pub const REPLY_MAX: usize = 4 << 20;

    /// Bytes of replies that wait for their readers, all clients together: PID 1 may live in 16 MB. Above it, those
    /// who have not read for longest are cut off.
    pub const UNREAD_MAX: usize = 8 << 20;

    /// Bytes of progress that wait for one who does not read them; what comes then is left out. It is some hundred lines,
    /// and the kernel holds more.
    pub const PROGRESS_MAX: usize = 16 << 10;

    /// Clients at once. Clients are short-lived; what stays for longer is a monitor or two. Each costs a file
    /// descriptor, which apps need more. Root's and those of init's own user may be beyond it, where all others wait for
    /// answers: an operator is let in.
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
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Who is there?
    Ping,
    /// All instances.
    List,
    /// All about these. No target: all.
    Describe {
        #[serde(default)]
        targets: Vec<Box<str>>,
        /// With the values of variables.
        #[serde(default)]
        secrets: bool,
    },
    /// Do something with existing apps. Each target is a name, a namespace, an id or `all`.
    Operate {
        verb: Verb,
        targets: Vec<Box<str>>,
        /// What the apps' next runs get in place of the environment of the shell that started them (`--update-env`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environ: Option<Environ>,
        /// Of a restart or reload.
        #[serde(default, skip_serializing_if = "Rollout::is_usual")]
        how: Rollout,
    },
    /// Make it so that these apps are there as described; see [`Wish::Apply`](crate::supervisor::event::Wish).
    Apply {
        /// `start`, `restart` or `reload`.
        verb: Verb,
        #[serde(serialize_with = "packing::serialize")]
        apps: Vec<AppSpec>,
        /// The environment that new apps get.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environ: Option<Environ>,
        /// Known apps get it too (`--update-env`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        renew: bool,
        #[serde(default, skip_serializing_if = "Rollout::is_usual")]
        how: Rollout,
    },
    Scale {
        target: Box<str>,
        to: Count,
    },
    /// Send a signal to main processes.
    Signal {
        sig: Sig,
        targets: Vec<Box<str>>,
    },
    /// Write this text and a newline into the stdin of each instance of the target, where that is a pipe. No more than
    /// [`limits::TEXT_MAX`] bytes.
    Send {
        target: Box<str>,
        text: Box<str>,
    },
    /// The watcher tells: files of this app have changed, `path` among them, the last of them at that moment of
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    Changed {
        app: Box<str>,
        path: Box<str>,
        at: Mono,
    },
    /// The logger tells: these runs have written the text that makes them ready.
    Ready {
        runs: Vec<RunId>,
    },
    /// What apps write; see [`logs`].
    Logs(logs::Query),
    /// Empty the files that these apps' output goes to, and forget what is remembered of it. The connection is closed after
    /// the answer. No target: all.
    Flush {
        #[serde(default)]
        targets: Vec<Box<str>>,
    },
    /// Open all those files again under their names, as somebody has moved them away. The connection is closed after the
    /// answer.
    #[serde(rename = "reload-logs")]
    ReloadLogs,
    /// End all apps, then pm3 itself. The answer comes when all are over, just before pm3's exit.
    Quit,
}

/// Why a text cannot be sent to an app, if it cannot.
pub fn unsendable(text: &str) -> Option<String> {
    let (length, most) = (text.len(), limits::TEXT_MAX);
    (length > most)
        .then(|| format!("{length} bytes are too many for a line: an app gets {most} at once; send it in parts"))
}

/// The whole environment of a client.
pub type Environ = Vec<(Box<str>, Box<str>)>;

impl Request {
    /// The right that a client needs to ask this.
    pub fn needs(&self) -> Right {
        match self {
            Request::Ping
            | Request::List
            | Request::Describe { secrets: false, .. }
            | Request::Ready { .. }
            | Request::Logs(_) => Right::View,
            // Whoever sets an app's environment decides what it runs (LD_PRELOAD).
            Request::Operate { environ: Some(_), .. } => Right::Admin,
            Request::Operate { verb, .. } => match verb {
                Verb::Start
                | Verb::Stop
                | Verb::Restart
                | Verb::Reload
                | Verb::Reset
                | Verb::Watch
                | Verb::Promote
                | Verb::Abort => Right::Operate,
                Verb::Delete => Right::Admin,
            },
            Request::Scale { .. }
            | Request::Signal { .. }
            | Request::Send { .. }
            | Request::Changed { .. }
            | Request::Flush { .. }
            | Request::ReloadLogs => Right::Operate,
            Request::Describe { secrets: true, .. } | Request::Apply { .. } | Request::Quit => Right::Admin,
        }
    }
}

impl Request {
    /// Whom it is about; none: everybody, or nobody.
    pub fn targets(&self) -> &[Box<str>] {
        match self {
            Request::Describe { targets, .. }
            | Request::Operate { targets, .. }
            | Request::Signal { targets, .. }
            | Request::Logs(logs::Query { targets, .. })
            | Request::Flush { targets } => targets,
            Request::Scale { target, .. } | Request::Send { target, .. } => std::slice::from_ref(target),
            Request::Ping
            | Request::List
            | Request::Apply { .. }
            | Request::Changed { .. }
            | Request::Ready { .. }
            | Request::ReloadLogs
            | Request::Quit => &[],
        }
    }

    /// Whether it changes nothing, and takes the longer to answer the more there is to look at.
    pub fn is_question(&self) -> bool {
        matches!(self, Request::List | Request::Describe { .. } | Request::Logs(_))
    }
}

/// What pm3 answers: one for each request, but for what is said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    Described {
        apps: Vec<Described>,
        /// Targets that name nothing, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failed: Vec<Box<str>>,
    },
    Outcome(Outcome),
    /// What happens to instances that a request is about, before its reply: only to who asked for it.
    Progress(Box<Progress>),
    /// One of many, to [`Request::Logs`].
    Log(logs::Event),
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
    /// The app that was sent a text does not read: nothing was done, and another try may do when it has read some.
    Full,
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
    /// The file that runs: with its directory, unless it is looked up in `$PATH`.
    pub script: Box<str>,
    /// Of the app, as its package.json says; empty where that is not known. pm3 leaves it to clients, who read files.
    pub version: Box<str>,
    /// PM2's word: `fork` or `cluster`.
    pub mode: Box<str>,
    /// Its number within the app, `NODE_APP_INSTANCE`.
    pub index: u32,
    /// It is a spare: whatever its state is, it does not serve.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
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
    /// Percent of one CPU that the whole tree took since the last look at it, or since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// When the instance was made, in milliseconds of Unix time.
    pub created_ms: u64,
    /// The name or number of the user that it runs as.
    pub user: Box<str>,
    /// What its probes say, in Docker's words: `starting`, `healthy` or `unhealthy`; empty where there are none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub health: Box<str>,
    /// What it says of itself, by sd_notify(3).
    #[serde(skip_serializing_if = "str::is_empty")]
    pub says: Box<str>,
    /// The new process that `reload --canary` or `--rollback` keeps beside this one, and what it gets; empty where there is
    /// none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub held: Box<str>,
    /// It is restarted when its files change.
    pub watching: bool,
    /// Why its last run ended or did not start; empty where there is nothing to say.
    pub reason: Box<str>,
    /// `max_memory_restart` in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// An app, as `show` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Described {
    /// As it is now. Values of variables are [`MASKED`] unless secrets were asked for or the variable
    /// [is harmless](is_harmless). An app that was scaled to none
    /// is described as one instance that does not start by itself.
    pub spec: AppSpec,
    /// A client brought it, so its environment is that of the client's shell: what of it is not in `spec.launch.shell` is
    /// as in pm3's own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_client: bool,
    pub instances: Vec<Detail>,
}

/// What stands in place of a variable's value.
pub const MASKED: &str = "***";

/// Whether a variable's value is no secret, by what the variable is for: it is shown to whoever may see the list. All
/// others are masked: no list of suspicious names would be complete.
pub fn is_harmless(variable: &str) -> bool {
    const HARMLESS: [&str; 21] = [
        "DYNO",
        "HOME",
        "HOST",
        "HOSTNAME",
        "LANG",
        "LC_ALL",
        "LOGNAME",
        "NODE_APP_INSTANCE",
        "NODE_ENV",
        "PATH",
        "PM3_HOME",
        "PORT",
        "PWD",
        "PYTHONUNBUFFERED",
        "SHELL",
        "TERM",
        "TZ",
        "USER",
        "WEB_CONCURRENCY",
        "name",
        "pm_id",
    ];
    HARMLESS.contains(&variable)
}

/// An instance, as `show` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    pub row: Row,
    /// When its newest run was started, in milliseconds of Unix time; 0: never.
    pub started_ms: u64,
    /// Short runs in a row (PM2's unstable restarts).
    pub short_runs: u32,
    /// Its last runs were short: so long, in milliseconds, others get its new connections, if others serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_ms: Option<u64>,
    /// When it is started next, by back-off or schedule, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start_ms: Option<u64>,
    /// Runs that have ended, the newest last; no more than 10.
    pub runs: Vec<Past>,
    /// The directory that it starts in.
    pub cwd: Box<str>,
    /// The files that its output goes to, where it goes to files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_file: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err_file: Option<Box<str>>,
    /// The one that both go to; it may be one of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<Box<str>>,
    /// What its processes listen at: `tcp 0.0.0.0:3000`, `unix /run/app.sock`.
    pub sockets: Vec<Box<str>>,
    /// Whose its ports are, and why: pm3's, which its runs share, or its own.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub ports: Box<str>,
    /// How many connections that waited for it were reset, as no run was to come for them.
    #[serde(skip_serializing_if = "is_zero")]
    pub resets: u64,
    /// What its last probe found wrong; empty where it found nothing, or there was none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub ailment: Box<str>,
    /// How its last run ended: n, or 128 + n for a signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Why output does not arrive where it is to go, a line each. pm3 leaves it to clients, who ask the logger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Box<str>>,
}

/// A run that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// 0 for one that never had a process.
    pub pid: u32,
    /// In milliseconds of Unix time.
    pub began_ms: u64,
    pub lasted_ms: u64,
    /// `exit 1`, `SIGSEGV`, `operator`, …
    pub reason: Box<str>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
