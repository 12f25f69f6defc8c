//! What pm3 is to do: the checked, fully resolved form of a configuration file. `config` makes it in a short-lived
//! child; it reaches init packed as JSON, so every field has a default and unknown fields are ignored. Rare
//! settings are boxed away: with a thousand apps each byte here counts a thousand times.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::output::{LogMode, LogRate, Output};
pub use super::pace::{Amount, RollPolicy};
use super::seldom::{Seldom, Usual};
use super::signal::Sig;
pub use super::standby::Standby;
use super::texts::{Pairs, Texts};
use super::time::Millis;

/// Bytes of packed apps that init reads at once: a plan of a file, or the line of a client who adds apps. It guards
/// init's own memory. An app with some variables and arguments takes about 300 bytes.
pub const PACKED_MAX: usize = 1 << 20;

/// More instances of all apps together do not fit beside other processes: Linux counts to 32768 by default.
pub const INSTANCES_MAX: u32 = 16_384;

/// The plan: all apps and pm3's own settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    pub apps: Vec<AppSpec>,
    pub settings: Settings,
}

/// `[pm3]`: the supervisor's own settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// All that stopping may take, from the first signal to the exit; what is left then is killed.
    pub stop_budget: Millis,
    /// When pm3 ends by itself.
    pub exit: ExitPolicy,
    /// How long an end that may be the first sign of pm3's own waits to be judged (`policy::may_be_a_stop`).
    pub settle: Millis,
    /// Time between two samples of memory, while some app has a limit.
    pub sample_interval: Millis,
    /// Directory of the control socket; None: the first that works, see `control`.
    pub runtime_dir: Option<Box<str>>,
    /// Whether there is a control socket at all.
    pub control: bool,
    /// A group whose members may use the control socket, with `control_right`.
    pub control_group: Option<Box<str>>,
    pub control_right: Right,
    /// The level of pm3's own lines, where neither `PM3_LOG` nor `RUST_LOG` is set.
    pub log_level: Option<Box<str>>,
    /// A file that gets the reason of the exit, as Kubernetes' `/dev/termination-log`.
    pub termination_log: Option<Box<str>>,
    /// Where output that is collected goes that has no file: `NAME-out.log` and `NAME-error.log` in this directory; None: to
    /// pm3's own stdout and stderr.
    pub log_dir: Option<Box<str>>,
    /// The directory that relative paths start from: where pm3 was started.
    pub cwd: Box<str>,
}

impl Settings {
    /// What the control socket depends on, which is made once, is the same.
    pub fn same_control(&self, other: &Settings) -> bool {
        let control =
            |one: &Settings| (one.control, one.control_right, one.control_group.clone(), one.runtime_dir.clone());
        control(self) == control(other)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            stop_budget: Millis(9_000),
            exit: ExitPolicy::default(),
            settle: Millis(200),
            sample_interval: Millis(1_000),
            runtime_dir: None,
            control: true,
            control_group: None,
            control_right: Right::default(),
            log_level: None,
            termination_log: None,
            log_dir: None,
            cwd: "/".into(),
        }
    }
}

/// When pm3 ends by itself. An app with `main` or `exit_on_error` decides in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitPolicy {
    /// When nothing runs that will run again.
    #[default]
    WhenDone,
    /// Only when told to.
    Never,
}

/// What a peer of the control socket may do, each including the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    #[default]
    View,
    Operate,
    Admin,
}

/// One `[[apps]]` entry: what the supervisor needs to decide, and how to launch it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSpec {
    pub name: Box<str>,
    /// None: PM2's `default`.
    pub namespace: Option<Box<str>>,
    pub kind: Kind,
    /// How many instances, resolved: `max` and the like are numbers here. At least 1 in a plan; 0 in an app that an
    /// operator scaled to none.
    pub instances: u32,
    pub autostart: bool,
    pub restart: Seldom<RestartPolicy>,
    pub stop: StopPolicy,
    /// How new runs follow old ones.
    pub roll: Seldom<RollPolicy>,
    /// Order alone: start once each of these is online or has ended for good. Names of apps, free of cycles.
    pub after: Box<[Box<str>]>,
    /// Start only once these are online (a one-shot: finished well); errored while one of them is over for good.
    pub requires: Box<[Box<str>]>,
    /// pm3 ends when this app does, with its code.
    pub main: bool,
    /// pm3 ends when this app is errored, with its code.
    pub exit_on_error: bool,
    /// Private memory of a run's tree above which it is restarted, in bytes.
    pub memory_limit: Option<u64>,
    pub cron: Option<Box<str>>,
    /// Whether two runs of an instance may be there for a moment; None: as `policy::manner` has it.
    pub overlap: Option<bool>,
    /// Restart it when files change; None: nobody looks.
    pub watch: Option<Box<Watch>>,
    /// How to see whether it is well; None: nobody looks.
    pub health: Option<Box<Health>>,
    /// Spares that stand by; None: there are none.
    pub standby: Option<Box<Standby>>,
    pub launch: Launch,
}

impl AppSpec {
    /// All ports of its next runs are their own (`exec_mode = "fork"`).
    pub fn owns_ports(&self) -> bool {
        self.listen().is_empty() && self.launch.rare.as_deref().is_some_and(|rare| rare.fork)
    }

    /// What makes a run ready.
    pub fn ready(&self) -> &Ready {
        self.launch.rare.as_deref().map_or(&Ready::Executing, |rare| &rare.ready)
    }

    /// The text that makes a run ready when it stands in a line of its output.
    pub fn ready_line(&self) -> Option<&str> {
        if let Ready::Line(text) = self.ready() { Some(text) } else { None }
    }

    /// How long a run has until it is ready; None: nobody waits for a word of its own.
    pub fn ready_within(&self) -> Option<Millis> {
        let rare = self.launch.rare.as_deref()?;
        let usual = match &rare.ready {
            Ready::Executing | Ready::Listening => return None,
            Ready::Message => Rare::READY_WITHIN,
            Ready::Notify | Ready::Healthy | Ready::Descriptor(_) | Ready::Line(_) => Rare::LISTENS_WITHIN,
        };
        Some(rare.listen_timeout.unwrap_or(usual))
    }

    /// Its runs have a socket for what they want to tell (sd_notify(3)).
    pub fn notifies(&self) -> bool {
        *self.ready() == Ready::Notify || self.watchdog().is_some()
    }

    /// How often a run has to say that it is alive.
    pub fn watchdog(&self) -> Option<Millis> {
        self.launch.rare.as_deref().and_then(|rare| rare.watchdog)
    }

    /// How long a run that has begun may take until it is online; None: it is online at once. `listens`: it follows one
    /// that did; sockets that are handed to it listen from the start.
    pub(super) fn prepares_within(&self, listens: bool) -> Option<Millis> {
        let waits = listens && self.listen().is_empty() && !self.owns_ports();
        let listens = waits || *self.ready() == Ready::Listening;
        self.ready_within().or_else(|| listens.then(|| self.listens_within()))
    }

    /// Where it is to be reached at sockets that pm3 hands to it.
    pub fn listen(&self) -> &[Box<str>] {
        self.launch.rare.as_deref().map(|rare| &*rare.listen).unwrap_or_default()
    }

    /// How long a run that follows one which listened has to listen itself.
    pub fn listens_within(&self) -> Millis {
        self.launch.rare.as_deref().and_then(|rare| rare.listen_timeout).unwrap_or(Rare::LISTENS_WITHIN)
    }
}

impl Default for AppSpec {
    fn default() -> AppSpec {
        AppSpec {
            name: Box::default(),
            namespace: None,
            kind: Kind::default(),
            instances: 1,
            autostart: true,
            restart: Seldom::default(),
            stop: StopPolicy::default(),
            roll: Seldom::default(),
            after: Box::default(),
            requires: Box::default(),
            main: false,
            exit_on_error: false,
            memory_limit: None,
            cron: None,
            overlap: None,
            watch: None,
            health: None,
            standby: None,
            launch: Launch::default(),
        }
    }
}

/// How to see whether a run is well, in Docker's words and with its defaults (HEALTHCHECK in its Dockerfile reference).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    pub probe: Probe,
    /// Between two probes.
    pub interval: Millis,
    /// A probe that takes longer has failed.
    pub timeout: Millis,
    /// So many failures in a row make a run unhealthy.
    pub retries: u32,
    /// Failures this soon after the start do not count, unless a probe has succeeded.
    pub start_period: Millis,
    /// Between two probes in that time.
    pub start_interval: Millis,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            probe: Probe::default(),
            interval: Millis(30_000),
            timeout: Millis(30_000),
            retries: 3,
            start_period: Millis::ZERO,
            start_interval: Millis(5_000),
        }
    }
}

/// What a probe does. `at` is an address with a port, `:PORT` for one of this machine's own, or empty: where the run
/// listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Asks for this path; an answer with a status from 200 to 399 is a good one.
    Http { at: Box<str>, path: Box<str> },
    /// Connects.
    Tcp { at: Box<str> },
    /// Runs this command as the app's user, in its directory, with its environment; exit 0 is good.
    Exec(Texts),
}

impl Default for Probe {
    fn default() -> Probe {
        Probe::Tcp { at: Box::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Service,
    /// Runs to its end; exit 0 means done, and what waits for it may start.
    Oneshot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// Which files an app is restarted for when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// Files, and directories with all that is below them, absolute; none: the directory that the app runs in.
    pub paths: Box<[Box<str>]>,
    /// Globs and names of what is not looked at, as they are written, on top of what is never looked at.
    pub ignore: Box<[Box<str>]>,
    /// How long nothing may change any more before the restart; 0: the watcher's usual.
    pub delay: Millis,
    /// An operator does not want it for now.
    pub off: bool,
}

/// When and how fast an ended run is followed by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    pub when: Restart,
    /// Fixed wait before each restart.
    pub delay: Millis,
    /// First wait of the exponential back-off, ×1.5 each time up to 15 s; 0: none.
    pub backoff: Millis,
    /// Each wait is lengthened by a random share of up to this many percent.
    pub jitter_percent: u8,
    /// That many short runs in a row make an app errored.
    pub max_restarts: u32,
    /// A run shorter than this is a short one.
    pub min_uptime: Millis,
    /// Exit codes after which it is not started again.
    pub stop_exit_codes: Vec<u8>,
}

impl Usual for RestartPolicy {
    const USUAL: &'static RestartPolicy = &RestartPolicy {
        when: Restart::Always,
        delay: Millis::ZERO,
        backoff: Millis::ZERO,
        jitter_percent: 0,
        max_restarts: 16,
        min_uptime: Millis(1_000),
        stop_exit_codes: Vec::new(),
    };
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy::USUAL.clone()
    }
}

/// How a run is ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopPolicy {
    /// Goes to the main process alone: signalling a whole tree breaks parents that drain their own workers.
    pub signal: Sig,
    /// The grace: SIGKILL follows after this long.
    pub timeout: Millis,
    /// What outlives the main process gets the same signal, and what is left after the grace is killed with it.
    pub tree: bool,
    /// How long a run that somebody else serves for may take over what its clients have asked, before it is signalled.
    pub drain: Millis,
}

impl Default for StopPolicy {
    fn default() -> StopPolicy {
        StopPolicy { signal: Sig::TERM, timeout: Millis(8_000), tree: true, drain: Millis(5_000) }
    }
}

/// How an app's program is started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// The program that runs the script, with its own arguments; empty: the script is executed itself.
    pub interpreter: Texts,
    pub script: Box<str>,
    pub args: Texts,
    /// None: `Settings::cwd`. A relative one starts there.
    pub cwd: Option<Box<str>>,
    /// The environment of the shell that started the app, where it differs from pm3's own. Empty for apps of pm3's file.
    pub shell: Shell,
    /// Set on top of that.
    pub env: Pairs,
    pub output: Seldom<Output>,
    pub rare: Option<Box<Rare>>,
}

impl Launch {
    /// The words of the process: what is executed comes first.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.interpreter.iter().chain([&*self.script]).chain(&self.args)
    }
}

/// How the environment of a client's shell differs from pm3's own: None for a variable that is not set there. Shared,
/// because a client may start a thousand apps at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ShellVariable>", into = "Vec<ShellVariable>")]
pub struct Shell(Option<Arc<[ShellVariable]>>);

/// A variable's name, and its value if it has one.
pub type ShellVariable = (Box<str>, Option<Box<str>>);

impl Shell {
    pub fn variables(&self) -> &[ShellVariable] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Vec<ShellVariable>> for Shell {
    fn from(variables: Vec<ShellVariable>) -> Shell {
        Shell((!variables.is_empty()).then(|| variables.into()))
    }
}

impl From<Shell> for Vec<ShellVariable> {
    fn from(shell: Shell) -> Vec<ShellVariable> {
        shell.variables().to_vec()
    }
}

/// How an entry of `Rare::listen` begins that is an address with a port, as `tcp://[::]:80`.
pub const LISTEN_TCP: &str = "tcp://";

/// How one begins that is the path of a Unix socket, as `unix:/run/web.sock`.
pub const LISTEN_UNIX: &str = "unix:";

/// More sockets than this are no longer handed to one process.
pub const LISTEN_MAX: usize = 32;

/// Settings that most apps leave alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rare {
    /// Name of the variable with the instance's number; None: `NODE_APP_INSTANCE`.
    pub instance_var: Option<Box<str>>,
    /// A numeric variable that grows by one with each instance.
    pub increment_var: Option<Box<str>>,
    /// A name of /etc/passwd or a number.
    pub user: Option<Box<str>>,
    /// A name of /etc/group or a number; None with a user: that user's.
    pub group: Option<Box<str>>,
    pub stdin: Input,
    pub umask: Option<u16>,
    pub nice: Option<i8>,
    pub oom_score_adj: Option<i16>,
    pub no_new_privs: Option<bool>,
    /// It owns its sockets: nothing of what it binds is exchanged for pm3's.
    pub fork: bool,
    /// Where it is to be reached: sockets that pm3 opens and hands to it (sd_listen_fds(3)), each as [`LISTEN_TCP`] with
    /// an address and a port, or [`LISTEN_UNIX`] with a path.
    pub listen: Box<[Box<str>]>,
    /// So many connections may wait at each of its sockets; None: as many as the kernel allows.
    pub listen_backlog: Option<u32>,
    /// The permission bits of its Unix sockets; None: [`Rare::SOCKET_MODE`].
    pub socket_mode: Option<u16>,
    /// In front of each line of output, in this format (`config::date`).
    pub log_date: Option<Box<str>>,
    /// Bytes of recent output that are remembered; None: [`Rare::LOG_MEMORY`].
    pub log_memory: Option<u32>,
    /// How its log files are rotated; None: they are not.
    pub log_rotate: Option<Box<LogRotate>>,
    pub log_rate: Option<LogRate>,
    /// Bytes of a line as it is written, with all that stands before it and its end; None: [`Rare::LOG_TEXT`] of text.
    pub log_line_max: Option<u32>,
    /// It waits, however long, for a place that takes nothing, as with a bare pipe; else its output is dropped there.
    pub log_blocks: bool,
    /// Nothing of its output is lost where the logger is killed.
    pub lossless: bool,
    pub limits: Box<[Limit]>,
    /// What it does not get of the environment that pm3, or its shell, would give it: variables whose names begin with
    /// one of these; an empty one is the beginning of all.
    pub filter_env: Box<[Box<str>]>,
    pub ready: Ready,
    /// It says at least this often that it is alive, and is replaced when it does not.
    pub watchdog: Option<Millis>,
    /// How long a start may take until it is ready, or listens; None: as the two below.
    pub listen_timeout: Option<Millis>,
}

/// When a file that output goes to makes room for a new one, and what becomes of the old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogRotate {
    /// A line that would make a file longer than this goes into a new one; 0: any length.
    pub size: u64,
    /// So does a line that comes in another one of these times than what was written last. They are counted in local time
    /// from a Monday's beginning: so hours, days and weeks begin where people's do.
    pub every: Option<Millis>,
    /// How many old files stay.
    pub keep: u32,
    /// Old files are compressed.
    pub gzip: bool,
}

impl Default for LogRotate {
    /// The size is that of pm2-logrotate. It keeps thirty, which is much for a container's disk.
    fn default() -> LogRotate {
        LogRotate { size: 10 << 20, every: None, keep: 10, gzip: false }
    }
}

impl Rare {
    /// Some hundred lines: a screen or ten.
    pub const LOG_MEMORY: u32 = 64 << 10;

    /// Bytes of a line's text that are written as one. Twice what Docker and Kubernetes take, and still little to hold for
    /// each of a thousand streams whose lines never end.
    pub const LOG_TEXT: u32 = 32 << 10;

    /// As systemd has it (SocketMode=, systemd.socket(5)): whoever reaches the directory may connect.
    pub const SOCKET_MODE: u16 = 0o666;

    /// As long as PM2 waits (`listen_timeout`).
    pub const READY_WITHIN: Millis = Millis(3_000);

    /// Nothing is lost by waiting for a new run while the old one serves: time for what starts slowly.
    pub const LISTENS_WITHIN: Millis = Millis(30_000);
}

/// What makes a run ready: then it is online, and takes over from the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Its program executes.
    #[default]
    Executing,
    /// It listens at a slot of pm3's.
    Listening,
    /// The word of PM2's `wait_ready`, on Node's channel.
    Message,
    /// `READY=1` (sd_notify(3)).
    Notify,
    /// A newline on this descriptor (s6's notification-fd).
    Descriptor(u8),
    /// The first probe that succeeds.
    Healthy,
    /// A line of its output that has this text in it, on stdout or stderr. Not empty, without a newline, and at most
    /// [`Ready::LINE_MAX`] bytes.
    Line(Box<str>),
}

impl Ready {
    /// So much of what an app has written may have to wait in its pipe, as the text may go on.
    pub const LINE_MAX: usize = 256;
}

/// What an app finds as its stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// /dev/null: right for servers, as who reads it is told at once that there is nothing.
    #[default]
    Null,
    /// A pipe, for what clients send.
    Pipe,
}

/// One resource limit (setrlimit(2)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub resource: Resource,
    /// None: unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}
