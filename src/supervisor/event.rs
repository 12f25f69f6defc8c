//! The vocabulary of the seam between deciding and acting: what can happen ([`Event`]) and what should be done
//! about it ([`Effect`]). Everything here is plain data; the real kernel and the simulated one both speak it.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::checkup::Finding;
pub use super::hold::{Care, Share};
pub use super::note::{Note, What};
pub use super::pace::{Amount, Rollout};
pub use super::progress::{Outcome, Progress, Step};
pub use super::signal::Sig;
use super::spec::{AppSpec, Shell, Spec};
pub use super::spec::{Limit, Resource};
pub use super::time::{Millis, Mono, Span};

/// One process lifetime in an instance. Never reused, unlike a pid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// One of an app's places: PM2's `pm_id`. Grows from 0 and is not reused while pm3 runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u32);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One half of an instance's pair: of what outlives its processes and two runs must not share, as a listening socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    #[default]
    First,
    Second,
}

/// A client's connection that waits for a reply. Chosen by the engine, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// How a process ended, from the raw wait status (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Code(u8),
    Signal(Sig),
    /// As the child of another process, to whom the kernel has told how.
    Unseen,
}

impl End {
    /// The shell's convention: n, or 128 + n for a signal. Of an end that was not seen, a failure's.
    pub fn exit_code(self) -> u8 {
        match self {
            End::Code(code) => code,
            End::Signal(sig) => 128u8.saturating_add(sig.0),
            End::Unseen => 1,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "exit {code}"),
            End::Signal(sig) => sig.fmt(f),
            End::Unseen => f.write_str("exit code unknown"),
        }
    }
}

/// What the kernel's counters say about a SIGKILL that pm3 did not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oom {
    #[default]
    No,
    /// The machine's count of OOM kills rose, this cgroup's cannot be read.
    Probably,
    /// This cgroup's count of OOM kills rose.
    Yes,
}

/// The step of a start that failed. `Display` is the word that messages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stage {
    /// More file descriptors needed than the limit allows, or a name that holds a NUL: found before the fork.
    Prepare,
    Pipe,
    Listen,
    Fork,
    Session,
    Stdin,
    Stdout,
    Stderr,
    Limits,
    Nice,
    OomScore,
    Cgroup,
    User,
    Group,
    Ids,
    NoNewPrivs,
    Intercept,
    Chdir,
    Exec,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Prepare => "prepare",
            Stage::Pipe => "pipe",
            Stage::Listen => "listen",
            Stage::Fork => "fork",
            Stage::Session => "setsid",
            Stage::Stdin => "stdin",
            Stage::Stdout => "stdout",
            Stage::Stderr => "stderr",
            Stage::Limits => "limits",
            Stage::Nice => "nice",
            Stage::OomScore => "oom_score_adj",
            Stage::Cgroup => "cgroup",
            Stage::User => "user",
            Stage::Group => "group",
            Stage::Ids => "setuid",
            Stage::NoNewPrivs => "no_new_privs",
            Stage::Intercept => "intercept",
            Stage::Chdir => "chdir",
            Stage::Exec => "exec",
        })
    }
}

/// A start that failed: at which step, on what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub stage: Stage,
    /// What the step was about: a path, a user's name, a limit; may be empty.
    pub object: Box<str>,
    /// The errno, or 0 where there is none (an unknown user).
    pub errno: i32,
    /// The errno's text, lower case, from the one place that knows it (`sys`).
    pub why: Box<str>,
    /// The machine is short of something and may have it again: try later, do not count it as a crash.
    pub passing: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start failed at {}", self.stage)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Failure {
    /// What a shell would say: 127 for a program that is not there, 126 for one that cannot be run.
    pub fn exit_code(&self) -> u8 {
        const ENOENT: i32 = 2;
        if self.stage == Stage::Exec && self.errno == ENOENT { 127 } else { 126 }
    }
}

/// What an operator wants of some instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// What runs already is left alone.
    Start,
    Stop,
    /// Stop, then start, one instance of an app at a time; what is stopped is started.
    Restart,
    /// As `Restart`, but a new run is online before the old one is asked to end, where both can be at once.
    Reload,
    /// Stop and forget. An app without instances is forgotten too.
    Delete,
    /// Forget restarts and crashes; history stays.
    Reset,
    /// Watch the apps' files, or do not any more: the other of what is so now.
    Watch,
    /// Runs that are held take over, and the apps' other instances follow.
    Promote,
    /// Runs that are held end, and their old ones go on.
    Abort,
}

/// How many instances an app shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// 0: none runs, and the app stays in the list.
    Exactly(u32),
    Up(u32),
    Down(u32),
}

/// What a client asks for. Each target is a name, a namespace, an id or `all`; every one is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Wish {
    /// `shell` replaces that of the targets' apps, for their next runs. `how` is about those that run already.
    Operate { verb: Verb, targets: Vec<Box<str>>, shell: Option<Shell>, how: Rollout },
    /// These apps shall be there as described: new ones start, changed ones change. `verb` says what becomes of those
    /// that run and are the same: `Start` leaves them alone, `Restart` and `Reload` do what they say. Known apps keep
    /// the shell they have, unless `renew` is set. If one of them cannot be, nothing is done.
    Apply { verb: Verb, apps: Vec<AppSpec>, renew: bool, how: Rollout },
    /// Done when new instances are online and superfluous ones gone.
    Scale { target: Box<str>, to: Count },
    /// Sent to main processes.
    Signal { sig: Sig, targets: Vec<Box<str>> },
    /// pm3 shall end as it does when told by a signal; the answer is the last thing before its exit.
    Quit,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The first event: start what starts by itself.
    Boot,
    /// The fork for `Effect::Spawn` worked.
    Spawned { run: RunId, pid: u32 },
    /// The run's main process is this one from now on: the program has named it.
    Moved { run: RunId, pid: u32 },
    /// The program of the run is executing.
    Executed { run: RunId },
    /// The program says that it is ready; never before `Executed`.
    Ready { run: RunId },
    /// The program listens wherever it is to be reached, at slots of pm3's: as the run before it did, where there was one.
    Listening { run: RunId },
    /// The run has nothing to do any more for clients that it has; answers `Effect::Drain`.
    Drained { run: RunId },
    /// The program of a spare opens its port, and is held there: it stands by. Also of each further port.
    StandsBy { run: RunId },
    /// The program of a spare opens a port and cannot be held there, for this reason; it was told that it cannot.
    Unfit { run: RunId, why: Box<str> },
    /// The start failed and no process of the run is left; ends the run, as `Exited` does.
    SpawnFailed { run: RunId, failure: Failure },
    /// The run's main process has been reaped, by pm3 or by its parent.
    Exited { run: RunId, end: End, oom: Oom, leftovers: bool },
    /// No process of the ended run's tree is left; follows an `Exited` with leftovers.
    Cleared { run: RunId },
    /// What keeps another run from starting beside this one; answers `Effect::Survey`.
    Surveyed { run: RunId, obstacle: Option<Obstacle> },
    /// Private memory of the run's whole tree, in bytes; answers `Effect::Sample`.
    Usage { run: RunId, bytes: u64 },
    /// A probe of the run has ended; answers `Effect::Probe`.
    Probed { run: RunId, finding: Finding },
    /// The run says that it is alive; never before `Executed`. `well`: or that it is not, and wants to be replaced.
    Heartbeat { run: RunId, well: bool },
    /// A client asks; answered by exactly one `Effect::Reply`, and before it, if it `follows`, by `Effect::Progress`.
    Request { client: ClientId, wish: Wish, follows: bool },
    /// The client is gone; what it asked for goes on, its reply is not wanted.
    ClientGone { client: ClientId },
    /// A signal to pm3 itself; `by_kernel` tells a lost terminal's SIGHUP from a person's.
    Signal { sig: Sig, by_kernel: bool },
    /// The file was read again and is good.
    Planned { spec: Box<Spec> },
    /// The next occurrence of an app's schedule; answers `Effect::Schedule`. None: it never comes.
    Scheduled { app: Box<str>, at: Option<Mono> },
    /// Files of a watched app have changed, `path` among them, the last of them `at` that moment.
    FilesChanged { app: Box<str>, path: Box<str>, at: Mono },
    /// The wall clock jumped: schedules are asked for again.
    ClockChanged,
    /// pm3 has no child any more; sent while it sweeps.
    Childless,
    /// The moment that `deadline()` named has come.
    Tick,
}

impl Event {
    /// It holds variables of apps, which are nobody's business.
    pub fn is_secret(&self) -> bool {
        matches!(
            self,
            Event::Planned { .. }
                | Event::Request { wish: Wish::Apply { .. } | Wish::Operate { shell: Some(_), .. }, .. }
        )
    }
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The run's main process alone.
    Process,
    /// The whole tree: session members, descendants, adopted processes that carry the run's mark.
    Tree,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Start the instance's program as this run; answered by `Spawned` and then `Executed`, or by `SpawnFailed`.
    Spawn {
        run: RunId,
        instance: InstanceId,
        half: Half,
    },
    /// Look whether another run can start beside this one; answered by `Surveyed`, unless the run is gone.
    Survey {
        run: RunId,
    },
    /// New connections go to others: wait until the run is done with its own. Answered by `Drained`, unless it is gone.
    Drain {
        run: RunId,
    },
    /// This run, of a spare that stood by, takes the place of a run that has ended on this half of this instance: what waits
    /// there is its own from now on, and it is held no more.
    TakeOver {
        run: RunId,
        from: InstanceId,
        half: Half,
    },
    /// This run stood by and is to end: whatever of it is held is told that it cannot have its port. Until then its main
    /// thread hears no signal but SIGKILL.
    Dismiss {
        run: RunId,
    },
    Signal {
        run: RunId,
        sig: Sig,
        scope: Scope,
    },
    /// Look whether the run is well, as its app's entry says. Answered by `Probed`, unless the run is gone.
    Probe {
        run: RunId,
    },
    /// Signal every process that is left, whoever started it: the end of pm3 is near.
    Sweep {
        sig: Sig,
    },
    /// Measure the memory of these runs' trees.
    Sample {
        runs: Vec<RunId>,
    },
    /// Compute when this cron expression comes next, in local time.
    Schedule {
        app: Box<str>,
        cron: Box<str>,
    },
    /// Tell a client what happens to its request, if it reads.
    Progress {
        client: ClientId,
        news: Box<Progress>,
    },
    Reply {
        client: ClientId,
        outcome: Outcome,
    },
    /// Tell the reader of the log.
    Note(Note),
    /// Read the file again, in a child.
    ReadPlan,
    /// Write the state of all instances to the log.
    Report,
    /// pm3 ends with this code; nothing comes after it.
    Exit {
        code: u8,
        reason: Box<str>,
    },
}

/// What keeps a second run of a program from starting beside the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    /// The program listens on this TCP or UDP port, which only one process can own.
    Port(u16),
    /// It listens on the Unix socket of this name, `@` before an abstract one.
    Socket(Box<str>),
    /// Nobody can tell: the kernel does not let pm3 look, for this reason.
    Unseen(Box<str>),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Port(port) => write!(f, "it owns port {port}"),
            Obstacle::Socket(name) => write!(f, "it owns the socket {name}"),
            Obstacle::Unseen(why) => write!(f, "what it listens on cannot be seen ({why})"),
        }
    }
}

/// Why a run was ended or did not start: the last reason that `list` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    Ended(End),
    Oom(Oom),
    /// Boxed, because every run that is remembered has room for a reason.
    StartFailed(Box<Failure>),
    Memory {
        used: u64,
        limit: u64,
    },
    Operator,
    Cron,
    /// Its settings changed: in the file that was read again, or by a client.
    Changed,
    /// This file, or others with it, changed.
    Watched(Box<str>),
    /// pm3 itself is ending.
    Shutdown,
    /// An app that it requires is errored or failed.
    Requires(Box<str>),
    /// A reload that was to be taken back if it failed did fail, or an operator took it back.
    TakenBack,
    /// No other run can be beside it.
    Owns(Box<Obstacle>),
    /// A new run beside the old one failed, for this reason, and the old one goes on.
    Reload(Box<Reason>),
    /// It has not said within this time that it is ready.
    NotReady(Millis),
    /// A new run beside the old one ended by itself, as it may for good (`stop_exit_codes`), and the old one goes on.
    Done(End),
    /// It was asked to end, for this reason, and that took SIGKILL after so long.
    Killed {
        why: Box<Reason>,
        after: Millis,
    },
    /// Its probes failed, the last one for this.
    Unhealthy(Box<str>),
    /// A spare that has stood by for as long as its entry says.
    Aged(Millis),
    /// A spare of whose app nobody is left to stand by for.
    Needless,
    /// A spare that cannot be held at its port, for this reason.
    Unfit(Box<str>),
    /// It has not said for so long that it is alive; zero: it said itself that it is not well.
    Silent(Millis),
}

impl Reason {
    /// Of a run that ended by itself.
    pub(super) fn of_end(end: End, oom: Oom) -> Reason {
        match oom {
            Oom::No => Reason::Ended(end),
            Oom::Yes | Oom::Probably => Reason::Oom(oom),
        }
    }

    /// Something is wrong with a run, which goes on.
    pub(super) fn is_ailment(&self) -> bool {
        matches!(self, Reason::Memory { .. } | Reason::Unhealthy(_) | Reason::Silent(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Ended(end) => end.fmt(f),
            Reason::Oom(Oom::Yes) => f.write_str("oom"),
            Reason::Oom(Oom::Probably | Oom::No) => f.write_str("SIGKILL, probably oom"),
            Reason::StartFailed(failure) => failure.fmt(f),
            Reason::Memory { used, limit } => write!(f, "memory {} over {}", Size(*used), Size(*limit)),
            Reason::Operator => f.write_str("operator"),
            Reason::Cron => f.write_str("cron"),
            Reason::Changed => f.write_str("config changed"),
            Reason::Watched(path) => write!(f, "watch: {path}"),
            Reason::Shutdown => f.write_str("shutdown"),
            Reason::Requires(app) => write!(f, "requires {app}"),
            Reason::TakenBack => f.write_str("taken back"),
            Reason::Owns(obstacle) => write!(f, "{obstacle}, so no new process can be beside it"),
            Reason::Reload(why) => write!(f, "reload failed: {why}"),
            Reason::NotReady(span) => write!(f, "not ready after {}", Span(*span)),
            Reason::Done(end) => write!(f, "reload: the new process was done, {end}"),
            Reason::Killed { why, after } => write!(f, "{why}, SIGKILL after {}", Span(*after)),
            Reason::Unhealthy(why) => write!(f, "unhealthy: {why}"),
            Reason::Aged(span) => write!(f, "stood by for {}", Span(*span)),
            Reason::Needless => f.write_str("nobody is left to stand by for"),
            Reason::Unfit(why) => write!(f, "cannot stand by: {why}"),
            Reason::Silent(Millis(0)) => f.write_str("watchdog: it asked for a restart"),
            Reason::Silent(span) => write!(f, "watchdog: no heartbeat for {}", Span(*span)),
        }
    }
}

/// Bytes as people write them: `512`, `23.1M`, `20M`; 1024-based as PM2's.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
        let Some((unit, letter)) = units.into_iter().find(|(unit, _)| self.0 >= *unit) else {
            return write!(f, "{}", self.0);
        };
        let tenths = (u128::from(self.0) * 10 + u128::from(unit) / 2) / u128::from(unit);
        if tenths % 10 == 0 {
            write!(f, "{}{letter}", tenths / 10)
        } else {
            write!(f, "{}.{}{letter}", tenths / 10, tenths % 10)
        }
    }
}
