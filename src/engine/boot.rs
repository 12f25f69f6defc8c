//! From the command line to a running loop: what PID 1 must do once, in an order that loses no signal and leaves
//! nothing behind in its memory.

use std::fs::File;
use std::hash::RandomState;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, error, info, warn};
use mio::unix::SourceFd;
use mio::{Interest, Poll};

use super::cpu::Looks;
use super::drain::Drains;
use super::inputs::Inputs;
use super::intercept::Intercepted;
use super::launch::Origin;
use super::notify::Notices;
use super::pipes::Pipes;
use super::plan::{self, BAD_CONFIG, Progress, Source};
use super::probes::Probes;
use super::ready::Channels;
use super::roles::Roles;
use super::runs::Runs;
use super::sample::Pace;
use super::server::{Places, Server};
use super::slots::Slots;
use super::{Engine, SERVER, SIGNALS};
use crate::config;
use crate::control::place::{self as control, Facts};
use crate::control::{READY, TAKEN};
use crate::supervisor::Supervisor;
use crate::supervisor::spec::{ExitPolicy, Settings, Spec};
use crate::sys::proc::Processes;
use crate::sys::signals::{self, SignalFd};
use crate::sys::users::Users;
use crate::sys::{again, cgroup, clock, errno, fds, fork, intercept, memory, own_lines, place};

/// What `pm3 init` was asked.
#[derive(Clone, Debug, Default)]
pub struct Args {
    pub plan: Plan,
    /// Where the control socket shall be.
    pub socket: Option<PathBuf>,
    /// A descriptor that was handed on, for whoever waits until pm3 can be asked: it gets [`READY`] or [`TAKEN`].
    pub ready: Option<RawFd>,
}

/// Where the apps come from.
#[derive(Clone, Debug)]
pub enum Plan {
    /// From a file, and from the same one again at each SIGHUP.
    File {
        /// None: the first that is found.
        file: Option<PathBuf>,
        /// The profile whose `env_<profile>` tables apply.
        profile: Option<String>,
        /// Names of apps, with commas; None: all.
        only: Option<String>,
    },
    /// Packed in a sealed file in memory, whose descriptor was handed on: `pm3 start --no-daemon`.
    Packed(RawFd),
    /// There are none until a client brings some: the supervisor in the background, which only a client ends.
    Empty,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan::File { file: None, profile: None, only: None }
    }
}

/// Descriptors that pm3 needs besides its apps' output: for clients, for starts that are under way, for reading files.
const OWN_DESCRIPTORS: u64 = 320;

/// What pm3 returns when the machine refuses it the means to work (sysexits.h: EX_OSERR).
const CANNOT_WORK: u8 = 71;

/// What it returns where another pm3 listens already (EX_UNAVAILABLE).
const NOT_NEEDED: u8 = 69;

/// `pm3 init`: supervises the apps of the file until they or a signal end it. Returns the exit code: see the README.
pub fn init(args: Args) -> u8 {
    // Before anything that could fail or take time: what comes from here on is kept.
    signals::block_all();
    again::take_name(c"pm3");
    LEVEL_IS_GIVEN.store(own_lines::start(), Ordering::Relaxed);
    let inherited = fds::raise_limit();
    // What was handed on by number is ours before the rest is closed.
    let mut ready = args.ready.and_then(again::adopt).map(File::from);
    let packed = match args.plan {
        Plan::Packed(number) => again::adopt(number).map(File::from),
        Plan::File { .. } | Plan::Empty => None,
    };
    fds::close_inherited();
    if let Err(error) = place::become_subreaper() {
        warn!("cannot adopt orphans: {error}; processes that leave their parent will not be ended with pm3");
    }
    let start_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let must_listen = matches!(args.plan, Plan::Empty);
    let (spec, source) = match args.plan {
        Plan::File { file, profile, only } => {
            let source = Source { file, profile, only, start_dir };
            (read(&source), Some(source))
        }
        Plan::Packed(_) => (unpack(packed), None),
        Plan::Empty => (Ok(empty()), None),
    };
    let spec = match spec {
        Ok(spec) => spec,
        Err(code) => return code,
    };
    apply_log_level(&spec);
    // A working directory would keep its disk from being unmounted; the apps' own start from `start_dir`.
    let _ = std::env::set_current_dir("/");
    let count = spec.apps.len();
    let has_proc = place::has_own_proc();
    // What is held is looked at in /proc.
    let unable = if has_proc { intercept::probe().err() } else { Some(errno::ABSENT) };
    let origin =
        Origin { nofile: inherited.ok(), nonce: nonce(), secret: RandomState::new(), has_proc, owner: owner(), unable };
    let (engine, places) = match assemble(spec, source, origin, args.socket) {
        Ok(assembled) => assembled,
        Err(why) => {
            error!("{why}");
            return CANNOT_WORK;
        }
    };
    if must_listen && places.names.is_empty() && places.taken.is_empty() {
        error!("no control socket could be made, so nobody could ever ask this pm3; $PM3_HOME may name another place");
        return CANNOT_WORK;
    }
    // Its apps would run twice, and no command would reach the second ones. Without PID 1 there is no container at all.
    let is_second = !places.taken.is_empty() && !place::is_pid_1();
    for taken in &places.taken {
        if is_second && !must_listen {
            error!("{taken}; `pm3 start FILE` brings apps to that one, --socket or $PM3_HOME makes room for a second");
        } else {
            warn!("{taken}");
        }
    }
    if !is_second {
        let named = if places.names.is_empty() { "no control socket".to_owned() } else { places.names.join(" and ") };
        let (release, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        info!("pm3 {release} as pid {pid}, {count} app{}, {named}", if count == 1 { "" } else { "s" });
    }
    if let Some(ready) = &mut ready {
        // Whoever waited may have lost patience.
        let _ = ready.write_all(&[if is_second { TAKEN } else { READY }]);
    }
    if is_second {
        return NOT_NEEDED;
    }
    drop((ready, places));
    memory::drop_text();
    let code = engine.run();
    log::logger().flush();
    code
}

/// What the supervisor in the background begins with.
fn empty() -> Spec {
    let facts = Facts::new(place::uid(), None, None, |name| std::env::var_os(name));
    let home = control::home(&facts, || Users::read().by_uid(facts.uid).map(|user| PathBuf::from(&*user.home)));
    // Its own stdout is nobody's.
    let log_dir = home.map(|home| home.join("logs").to_string_lossy().into());
    let settings = Settings { exit: ExitPolicy::Never, log_dir, ..Settings::default() };
    Spec { apps: Vec::new(), settings }
}

/// The plan that `pm3 start --no-daemon` has made. An error is pm3's exit code.
fn unpack(packed: Option<File>) -> Result<Spec, u8> {
    let most = u64::try_from(config::PACKED_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = packed.ok_or_else(|| "it was not handed on".to_owned()).and_then(|file| {
        file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        config::unpack(&bytes)
    });
    read.map_err(|why| {
        error!("--packed: {why}; this option is for pm3's own use");
        CANNOT_WORK
    })
}

/// Whether the environment has chosen what is logged; then the file does not.
static LEVEL_IS_GIVEN: AtomicBool = AtomicBool::new(false);

pub(super) fn apply_log_level(spec: &Spec) {
    if !LEVEL_IS_GIVEN.load(Ordering::Relaxed) {
        let level = spec.settings.log_level.as_deref().and_then(|level| level.parse().ok());
        log::set_max_level(level.unwrap_or(LevelFilter::Info));
    }
}

/// Reads the file and waits for it: there is nothing else to do yet. An error is pm3's exit code; what it is about has
/// been told.
fn read(source: &Source) -> Result<Spec, u8> {
    let mut reading = plan::read(source).map_err(|why| {
        error!("{why}");
        CANNOT_WORK
    })?;
    loop {
        fork::wait(&reading.worker, reading.deadline.since(clock::now()));
        match reading.advance(clock::now()) {
            Progress::Underway => {}
            Progress::Done(spec) => return Ok(*spec),
            Progress::Failed(None) => return Err(BAD_CONFIG),
            Progress::Failed(Some(why)) => {
                error!("{why}");
                return Err(CANNOT_WORK);
            }
        }
    }
}

fn assemble(
    spec: Spec,
    source: Option<Source>,
    origin: Origin,
    socket: Option<PathBuf>,
) -> Result<(Engine, Places), String> {
    let poll = Poll::new().map_err(|error| format!("cannot wait for events: {error}"))?;
    let signals = SignalFd::new().map_err(|error| format!("cannot receive signals: {error}"))?;
    let registry = poll.registry();
    registry
        .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    let facts = Facts::new(place::uid(), place::pid_namespace(), socket, |name| std::env::var_os(name));
    let (server, places) = Server::open(&spec.settings, &facts, place::is_pid_1(), registry, SERVER);
    let seed = clock::now().0 ^ u64::from(std::process::id());
    let mut supervisor = Supervisor::new(spec, seed);
    // The limit has been raised to what it may be at most.
    let most = origin.nofile.map_or(u64::MAX, |nofile| nofile.hard);
    supervisor.limit_descriptors(most.saturating_sub(OWN_DESCRIPTORS));
    let engine = Engine {
        supervisor,
        signals,
        server,
        runs: Runs::default(),
        roles: Roles::default(),
        pipes: Pipes::default(),
        inputs: Inputs::default(),
        channels: Channels::default(),
        notices: Notices::default(),
        intercepted: Intercepted::default(),
        slots: Slots::default(),
        drains: Drains::default(),
        probes: Probes::default(),
        watched: Vec::new(),
        origin,
        source,
        reading: None,
        read_once_more: false,
        wall_clock: None,
        processes: Processes::new(),
        looked: false,
        swept: false,
        unfinished: false,
        pace: Pace::default(),
        oom: cgroup::OomWatch::new(),
        looks: Looks::default(),
        events: std::collections::VecDeque::new(),
        questions: std::collections::VecDeque::new(),
        untidy: true,
        exit: None,
        poll,
    };
    Ok((engine, places))
}

/// The user that pm3 runs as: by name, or by number where /etc/passwd does not know it.
fn owner() -> Box<str> {
    let uid = place::uid();
    Users::read().by_uid(uid).map_or_else(|| uid.to_string().into(), |user| user.name)
}

/// Tells this pm3 from others whose runs may be seen from here: its pid namespace, its pid and when it started.
fn nonce() -> Box<str> {
    let namespace = place::pid_namespace().unwrap_or_default();
    format!("{namespace:x}-{}-{:x}", std::process::id(), clock::now().0).into()
}
