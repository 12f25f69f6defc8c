//! Performs what the supervisor decides: the only place where it meets the kernel. One thread, one loop; it waits in
//! `poll` alone, and for no one whom it supervises.
//!
//! The order within a wake-up matters. Signals are acted on before ends: an app that dies of the TERM that everybody
//! got must find pm3 knowing of it. A start's result is read before its end is told. Then ends, then clients: a
//! restart in the same wake-up sees the exit. What clients only want to know comes last, one question in a wake-up.

pub mod boot;
mod cpu;
mod cron;
mod drain;
mod effects;
mod inputs;
mod intercept;
mod launch;
mod listen;
mod moved;
mod notify;
mod pipes;
pub mod plan;
mod probes;
mod ready;
mod report;
mod roles;
pub mod run;
mod runs;
mod sample;
pub mod server;
mod slots;
mod survey;
mod trees;
mod watch;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{debug, error, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::control::limits::TARGETS_MAX;
use crate::control::role::{Ask, Watched};
use crate::control::{Problem, Refusal, Reply, Request};
use crate::supervisor::Supervisor;
use crate::supervisor::event::{self, ClientId, End, Event, Failure, Oom, Outcome, RunId, Sig, Wish};
use crate::sys::proc::Processes;
use crate::sys::reap::{self, Change, Children};
use crate::sys::signals::{Received, SignalFd};
use crate::sys::{cgroup, clock, memory, spawn};
use drain::Drains;
use inputs::Inputs;
use intercept::Intercepted;
use launch::Origin;
use notify::Notices;
use pipes::Pipes;
use plan::{Progress, Reading, Source};
use probes::Probes;
use ready::Channels;
use roles::Roles;
use runs::{Runs, Stage};
use server::{Incoming, Server};
use slots::Slots;

const SIGNALS: Token = Token(0);
const WALL_CLOCK: Token = Token(1);
const READING: Token = Token(2);
/// The server numbers its sockets from here.
const SERVER: usize = 16;
/// A start's socket has this number and its run's; far above what the server can use.
const STARTS: usize = 1 << 40;
/// A run's channel has this number and its run's; far above its start's.
const CHANNELS: usize = 2 << 40;
/// So has the listener of a run that is intercepted.
const CALLS: usize = 3 << 40;
/// A slot has this number and its own.
const SLOTS: usize = 4 << 40;
/// And so has the socket of a run for what it tells.
const NOTICES: usize = 5 << 40;
/// And the main process that a run has named itself.
const MOVED: usize = 6 << 40;

/// Events taken from the kernel in one wake-up; the rest comes in the next.
const EVENTS_MAX: usize = 128;

/// So often what a run has said is read when it has ended; the kernel keeps some hundred messages.
const HEARD_OUT_MAX: usize = 16;

/// How often ends are collected anew when an app has ended and more ends came while pm3 looked what it left. What is
/// still not clear then is looked at after the next one.
const LOOKS_MAX: usize = 4;

/// When nothing has happened for this long, there is time to give memory back. It is done once after any work.
const QUIET: Duration = Duration::from_millis(500);

/// Init at work.
pub struct Engine {
    supervisor: Supervisor,
    poll: Poll,
    signals: SignalFd,
    server: Server,
    runs: Runs,
    roles: Roles,
    pipes: Pipes,
    inputs: Inputs,
    channels: Channels,
    notices: Notices,
    intercepted: Intercepted,
    slots: Slots,
    drains: Drains,
    probes: Probes,
    /// What the watcher has been told, or is to be when it is there.
    watched: Vec<Watched>,
    origin: Origin,
    /// What SIGHUP reads again; None: the plan came from no file.
    source: Option<Source>,
    reading: Option<Reading>,
    /// Asked for while `reading` was under way: the file may have changed since that began.
    read_once_more: bool,
    wall_clock: Option<clock::WallWatch>,
    processes: Processes,
    /// In this wake-up they have been looked at: a hundred signals to trees need one look.
    looked: bool,
    /// Everything has been sent SIGKILL.
    swept: bool,
    /// There is more to receive or to reap than was done in one turn, and no event will come for it.
    unfinished: bool,
    pace: sample::Pace,
    oom: cgroup::OomWatch,
    /// The last looks at how busy runs are.
    looks: cpu::Looks,
    /// What happened and the supervisor has not been told yet.
    events: VecDeque<Event>,
    /// What clients want to know, one question each at most. One is answered in a wake-up, after all that has happened was
    /// acted on: each takes as long as there are processes to look at, and apps that end must not wait for those who look.
    questions: VecDeque<(ClientId, Request)>,
    /// Memory has been used since it was last given back.
    untidy: bool,
    /// The exit code, once there is one. pm3 ends with it when its roles have ended.
    exit: Option<u8>,
}

impl Engine {
    /// Runs until pm3 ends; returns its exit code.
    pub fn run(mut self) -> u8 {
        let mut ready = Events::with_capacity(EVENTS_MAX);
        self.happened(Event::Boot);
        // Zombies and orphans may be older than this program.
        self.reap();
        loop {
            self.settle();
            if let Some(code) = self.exit
                && self.roles_are_gone()
            {
                self.tell_of_lost_output();
                return code;
            }
            if let Some((client, question)) = self.questions.pop_front() {
                self.asked(client, question);
            }
            let patience = self.patience();
            let tidies = self.untidy && patience.is_none_or(|wait| wait > QUIET);
            let waited = self.poll.poll(&mut ready, if tidies { Some(QUIET) } else { patience });
            if let Err(error) = waited
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                // Nothing that pm3 could mend; not to spin is the best it can do.
                error!("waiting for events failed: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            if tidies && ready.is_empty() {
                self.untidy = false;
                self.runs.shrink();
                self.pipes.shrink();
                self.processes.shrink();
                self.events.shrink_to_fit();
                self.questions.shrink_to_fit();
                memory::trim();
                continue;
            }
            self.wake(&ready);
        }
    }

    /// How long nothing will happen by itself.
    fn patience(&self) -> Option<Duration> {
        if self.unfinished || !self.questions.is_empty() {
            return Some(Duration::ZERO);
        }
        let reading = self.reading.as_ref().map(|reading| reading.deadline);
        let sockets = [self.drains.deadline(), self.slots.deadline(), self.probes.deadline()];
        let deadlines = [self.supervisor.deadline(), self.roles.deadline(), reading].into_iter().chain(sockets);
        // mio rounds up to the milliseconds that epoll counts in, so the deadline will lie behind us.
        Some(deadlines.flatten().min()?.since(clock::now()))
    }

    fn wake(&mut self, ready: &Events) {
        self.looked = false;
        let mut incoming = Vec::new();
        let mut signalled = std::mem::take(&mut self.unfinished);
        for event in ready {
            match event.token() {
                SIGNALS => signalled = true,
                WALL_CLOCK => self.clock_jumped(),
                READING => {}
                Token(token) if token >= MOVED => signalled = true,
                Token(token) if token >= STARTS => {}
                _ => self.server.ready(event, self.poll.registry(), &mut incoming),
            }
        }
        if signalled {
            self.take_signals();
        }
        for event in ready {
            let Token(token) = event.token();
            match token {
                MOVED.. => {}
                NOTICES.. => {
                    self.noticed(RunId((token - NOTICES) as u64));
                }
                SLOTS.. => self.slots.stirred(token - SLOTS, event.is_readable(), self.poll.registry()),
                CALLS.. => self.answer_calls(RunId((token - CALLS) as u64)),
                CHANNELS.. => self.hear(RunId((token - CHANNELS) as u64)),
                STARTS.. => self.start_advanced(RunId((token - STARTS) as u64)),
                _ => {}
            }
        }
        // A role may have told something just before its end.
        let (of_roles, incoming): (Vec<_>, Vec<_>) =
            incoming.into_iter().partition(|one| self.server.is_role(one.client()));
        for request in of_roles {
            self.serve(request);
        }
        if signalled {
            self.reap();
        }
        self.advance_reading();
        for request in incoming {
            self.serve(request);
        }
        if self.supervisor.deadline().is_some_and(|at| at <= clock::now()) {
            self.happened(Event::Tick);
        }
        self.mind_roles();
    }

    fn happened(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Tells the supervisor what happened and does what it says, until there is nothing more to tell.
    fn settle(&mut self) {
        loop {
            self.tell_supervisor();
            self.mind_slots();
            self.mind_drains();
            self.mind_probes();
            if self.events.is_empty() {
                break;
            }
        }
        self.drop_drained_pipes();
        self.mind_watched();
        self.tell_who_is_there();
    }

    fn tell_supervisor(&mut self) {
        let mut effects = Vec::new();
        while let Some(event) = self.events.pop_front() {
            if !event.is_secret() {
                debug!("{event:?}");
            }
            let passed = matches!(event, Event::Tick);
            self.supervisor.step(clock::now(), event, &mut effects);
            for effect in effects.drain(..) {
                debug!("→ {effect:?}");
                self.perform(effect);
            }
            if passed {
                self.mind_sought();
            }
            self.start_ordered();
            self.untidy = true;
        }
    }

    fn take_signals(&mut self) {
        let mut received = Vec::new();
        match self.signals.read_all(&mut received) {
            Ok(more) => self.unfinished |= more,
            Err(error) => error!("reading signals failed: {error}"),
        }
        let mut told = Vec::new();
        for Received { sig, by_kernel, .. } in received.into_iter().filter(|one| one.sig != Sig::CHLD) {
            // As for any program: one that was sent several times before it was looked at has been sent.
            if !told.contains(&(sig, by_kernel)) {
                told.push((sig, by_kernel));
                self.happened(Event::Signal { sig, by_kernel });
            }
        }
    }

    /// Collects everything that ended.
    fn reap(&mut self) {
        let mut ended = self.moved_ends();
        let mut children = Children::Some;
        for _ in 0..LOOKS_MAX {
            let known = ended.len();
            children = reap::reap(&mut |pid, change| match change {
                Change::Ended(end) => ended.push((pid, end)),
                // An app may stop itself, or be stopped for a debugger; that is its own affair.
                Change::Stopped(_) => {}
            });
            self.processes.forget(ended.iter().skip(known).map(|(pid, _)| *pid));
            // Other orphans that came and went are nobody's, however many there are.
            let of_runs = ended.iter().any(|(pid, _)| self.runs.by_pid(*pid).is_some());
            if !of_runs && (ended.is_empty() || self.runs.lingering().next().is_none()) {
                break;
            }
            self.look_around();
            if !(of_runs && self.processes.is_blurred()) {
                break;
            }
        }
        self.unfinished |= children == Children::More;
        let mut strangers = false;
        for (pid, end) in ended {
            let is_main = self.main_ended(pid, end);
            self.runs.leader_left(pid);
            strangers |= !is_main && !self.role_ended(pid, end) && !self.probe_ended(pid, end);
        }
        if strangers {
            self.look_after_lingering();
        }
        if strangers && self.swept && children != Children::None {
            self.signal_everything(Sig::KILL);
        }
        if self.supervisor.is_ending() && self.is_childless(children) {
            self.happened(Event::Childless);
        }
    }

    /// Whether no child is left but the roles, which go last.
    fn is_childless(&mut self, children: Children) -> bool {
        children == Children::None
            || self.roles.any_up() && self.runs.is_empty() && self.processes.no_child_but(|pid| self.roles.has(pid))
    }

    /// True if the pid was a run's main process.
    pub(super) fn main_ended(&mut self, pid: u32, end: End) -> bool {
        let Some(run) = self.runs.by_pid(pid) else { return false };
        self.start_advanced(run);
        // It may have named another before it left.
        let _ = (0..HEARD_OUT_MAX).any(|_| !self.noticed(run));
        if self.runs.by_pid(pid) != Some(run) {
            return false;
        }
        let Some(entry) = self.runs.by_run_mut(run) else { return true };
        if let Stage::Failed(failure) = &entry.stage {
            let failure = Failure::clone(failure);
            self.runs.remove(run);
            self.run_is_over(run);
            self.happened(Event::SpawnFailed { run, failure });
            return true;
        }
        entry.stage = Stage::Lingering;
        self.run_is_over(run);
        let leftovers = !self.is_gone(run);
        if !leftovers {
            self.runs.remove(run);
        }
        let oom = if end == End::Signal(Sig::KILL) { self.oom.kills() } else { Oom::No };
        self.happened(Event::Exited { run, end, oom, leftovers });
        true
    }

    /// Reads what has become of a start by now.
    fn start_advanced(&mut self, run: RunId) {
        loop {
            let Some(entry) = self.runs.by_run_mut(run) else { return };
            let Stage::Starting(status) = &entry.stage else { return };
            let std::task::Poll::Ready(progress) = spawn::outcome(status) else { return };
            if let spawn::Progress::Intercepted(calls) = progress {
                let (instance, half) = (entry.instance, entry.half);
                match calls {
                    Ok(calls) => self.intercept(run, instance, half, calls),
                    Err(errno) => self.not_intercepted(run, errno),
                }
                continue;
            }
            let _ = self.poll.registry().deregister(&mut SourceFd(&status.as_raw_fd()));
            match progress {
                // Told when the process has been reaped: then nothing of it is left.
                spawn::Progress::Failed(failure) => {
                    // Nobody could answer its calls: it does not know that it has failed.
                    if failure.stage == event::Stage::Intercept {
                        effects::send(entry.pid, Sig::KILL);
                    }
                    entry.stage = Stage::Failed(Box::new(failure));
                }
                spawn::Progress::Executed | spawn::Progress::Intercepted(_) => {
                    entry.stage = Stage::Running;
                    self.happened(Event::Executed { run });
                }
            }
            return;
        }
    }

    fn serve(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Gone { client } => {
                self.questions.retain(|(asker, _)| *asker != client);
                self.happened(Event::ClientGone { client });
            }
            Incoming::Asked { client, request, .. } if request.targets().len() > TARGETS_MAX => {
                let why = format!("{} targets are more than the {TARGETS_MAX} of a request", request.targets().len());
                let refusal = Refusal { problem: Problem::TooLong, why: why.into(), hint: "name fewer at once".into() };
                self.reply(client, &Reply::Error(refusal));
            }
            Incoming::Asked { client, request, .. } if request.is_question() => {
                self.questions.push_back((client, request));
            }
            Incoming::Asked { client, request, .. } => self.asked(client, request),
        }
    }

    fn asked(&mut self, client: ClientId, request: Request) {
        if self.server.is_role(client) {
            self.role_gets_on();
        }
        let wish = match request {
            Request::Ping => {
                let release = env!("CARGO_PKG_VERSION").into();
                return self.reply(client, &Reply::Pong { release, pid: std::process::id() });
            }
            Request::List => {
                self.look_around();
                let rows = self.rows();
                return self.reply(client, &Reply::List { rows });
            }
            Request::Describe { targets, secrets } => {
                self.look_around();
                let described = self.described(&targets, secrets);
                return self.reply(client, &described);
            }
            Request::Operate { targets, .. } | Request::Signal { targets, .. } if targets.is_empty() => {
                let failed = vec!["no target; name an app, a namespace, an id or all".into()];
                return self.reply(client, &Reply::Outcome(Outcome { failed, ..Outcome::default() }));
            }
            Request::Operate { verb, targets, environ, how } => {
                Wish::Operate { verb, targets, shell: environ.map(launch::shell), how }
            }
            Request::Apply { verb, mut apps, environ, renew, how } => {
                if let Some(shell) = environ.map(launch::shell) {
                    apps.iter_mut().for_each(|app| app.launch.shell = shell.clone());
                }
                launch::share_shells(&mut apps);
                Wish::Apply { verb, apps, renew, how }
            }
            Request::Scale { target, to } => Wish::Scale { target, to },
            Request::Signal { sig, targets } => Wish::Signal { sig, targets },
            Request::Send { target, text } => {
                let reply = self.send_text(target, &text);
                return self.reply(client, &reply);
            }
            // What they say is kept, and believed: it is not for clients to choose.
            Request::Changed { .. } | Request::Ready { .. } if !self.server.is_role(client) => {
                let why = "only pm3's own processes may tell that files have changed, or that an app is ready".into();
                let hint = "to have new runs, restart or reload".into();
                let refusal = Refusal { problem: Problem::NotAllowed, why, hint };
                return self.reply(client, &Reply::Error(refusal));
            }
            Request::Changed { app, path, at } => {
                self.happened(Event::FilesChanged { app, path, at });
                return self.reply(client, &Reply::Outcome(Outcome::default()));
            }
            Request::Ready { runs } => {
                self.found_ready(&runs);
                return self.reply(client, &Reply::Outcome(Outcome::default()));
            }
            Request::Logs(query) => {
                let targets = query.targets.clone();
                return self.hand_to_logger(client, Ask::Read(query), &targets);
            }
            Request::Flush { targets } => return self.hand_to_logger(client, Ask::Flush, &targets),
            Request::ReloadLogs => return self.hand_to_logger(client, Ask::Reopen, &[]),
            Request::Quit => Wish::Quit,
        };
        let follows = self.server.follows(client);
        self.happened(Event::Request { client, wish, follows });
    }

    fn clock_jumped(&mut self) {
        if self.wall_clock.as_ref().is_some_and(|clock| clock.jumped().unwrap_or(true)) {
            self.happened(Event::ClockChanged);
        }
    }

    /// Starts to read the file again; one reading at a time.
    fn read_plan(&mut self) {
        if self.reading.is_some() {
            self.read_once_more = true;
            return;
        }
        let Some(source) = &self.source else {
            return warn!("there is no file to read again: the apps came with the command line, or from clients");
        };
        match plan::read(source) {
            Ok(reading) => {
                let fd = reading.worker.result.as_raw_fd();
                if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), READING, Interest::READABLE) {
                    error!("cannot watch the child that reads the file: {error}");
                }
                self.reading = Some(reading);
            }
            Err(why) => error!("{why}; nothing was changed"),
        }
    }

    fn advance_reading(&mut self) {
        let Some(reading) = &mut self.reading else { return };
        let outcome = reading.advance(clock::now());
        if matches!(outcome, Progress::Underway) {
            return;
        }
        let _ = self.poll.registry().deregister(&mut SourceFd(&reading.worker.result.as_raw_fd()));
        self.reading = None;
        match outcome {
            Progress::Done(spec) => {
                boot::apply_log_level(&spec);
                if !self.supervisor.settings().same_control(&spec.settings) {
                    warn!("the control socket stays as it is until pm3 starts again");
                }
                self.happened(Event::Planned { spec });
            }
            Progress::Failed(why) => {
                error!("{}, nothing was changed", why.as_deref().unwrap_or("the file is not valid"));
            }
            Progress::Underway => {}
        }
        if std::mem::take(&mut self.read_once_more) {
            self.read_plan();
        }
    }

    /// Watches for jumps of the wall clock while some app has a schedule.
    fn watch_wall_clock(&mut self) {
        if self.wall_clock.is_some() || !self.supervisor.has_schedules() {
            return;
        }
        let watched = clock::WallWatch::new().and_then(|clock| {
            self.poll.registry().register(&mut SourceFd(&clock.as_raw_fd()), WALL_CLOCK, Interest::READABLE)?;
            Ok(clock)
        });
        match watched {
            Ok(clock) => self.wall_clock = Some(clock),
            Err(error) => warn!("cannot watch the wall clock, schedules may be late after it is set: {error}"),
        }
    }
}

/// The token of a run's start.
fn start_token(run: RunId) -> Token {
    Token(usize::try_from(run.0).unwrap_or(usize::MAX - STARTS).saturating_add(STARTS))
}
