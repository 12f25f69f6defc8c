//! One arm for each effect: what the supervisor says is done here, and nothing else is.

use std::os::fd::AsRawFd;
use std::path::Path;

use log::{error, info, warn};
use mio::Interest;
use mio::unix::SourceFd;

use super::roles::Role;
use super::runs::{Entry, Order, Stage};
use super::slots::Owner;
use super::{Engine, cron, inputs, launch, listen, notify, pipes, ready, report, start_token, survey};
use crate::control::Reply;
use crate::control::role::Tell;
use crate::supervisor::event::{
    self, ClientId, Effect, End, Event, Failure, InstanceId, Note, Oom, Reason, RunId, Scope, Sig, What,
};
use crate::supervisor::spec::{Input, Ready};
use crate::sys::kill::{self, Sent};
use crate::sys::{clock, errno, say, spawn, why};

impl Engine {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { run, instance, half } => self.runs.order(Order { run, instance, half }),
            Effect::Survey { run } => self.survey(run),
            Effect::Drain { run } => self.drain(run),
            Effect::Probe { run } => self.probe(run),
            Effect::TakeOver { run, from, half } => self.take_over(run, from, half),
            Effect::Dismiss { run } => self.intercepted.dismiss(run),
            Effect::Signal { run, sig, scope } => {
                self.stop_draining(run);
                self.signal(run, sig, scope);
            }
            Effect::Sweep { sig } => self.sweep(sig),
            Effect::Sample { runs } => self.sample(&runs),
            Effect::Schedule { app, cron } => {
                let at = cron::next(&cron, clock::now());
                if at.is_none() {
                    warn!("{app}: cron_restart = \"{cron}\" never comes");
                }
                self.happened(Event::Scheduled { app, at });
                self.watch_wall_clock();
            }
            Effect::Reply { client, outcome } => self.reply(client, &Reply::Outcome(outcome)),
            Effect::Progress { client, news } => self.server.inform(client, &Reply::Progress(news)),
            Effect::Note(note) => {
                tell(&note);
                self.leave_failure(&note);
            }
            Effect::ReadPlan => self.read_plan(),
            Effect::Report => report::log(&self.supervisor, &self.origin),
            Effect::Exit { code, reason } => self.end(code, &reason),
        }
    }

    pub(super) fn reply(&mut self, client: ClientId, reply: &Reply) {
        self.server.reply(client, reply, self.poll.registry());
    }

    /// Starts what has been ordered, as far as there is room.
    pub(super) fn start_ordered(&mut self) {
        while let Some(order) = self.runs.next_order() {
            let run = order.run;
            // Before it binds a port itself, pm3's slot there is gone.
            if self.supervisor.of_run(run).is_some_and(|(app, _)| app.owns_ports()) {
                self.mind_slots();
            }
            match self.start(order) {
                Ok((pid, watched)) => {
                    self.happened(Event::Spawned { run, pid });
                    if !watched {
                        self.happened(Event::Executed { run });
                    }
                }
                Err(failure) => {
                    self.slots.run_is_over(run);
                    self.happened(Event::SpawnFailed { run, failure });
                }
            }
        }
    }

    /// The pid, and whether the start's result will be seen.
    fn start(&mut self, order: Order) -> Result<(u32, bool), Failure> {
        let Order { run, half, .. } = order;
        let (app, instance) = self.supervisor.of_run(run).ok_or_else(vanished)?;
        let mut plan = launch::plan(app, instance, run, self.supervisor.settings(), &self.origin)?;
        let piped = app.launch.output.mode.is_collected() && self.can_have_roles();
        let listens = inputs::wanted(app) == Input::Pipe;
        let speaks = matches!(app.ready(), Ready::Message | Ready::Descriptor(_));
        let notifies = app.notifies();
        self.have_room(piped, listens, usize::from(speaks) + usize::from(notifies), app.listen().len())?;
        let owner = Owner::new(app, instance.id, half);
        listen::lay(&mut plan, app, owner, run, &mut self.slots, self.poll.registry())?;
        let ends = if piped { Some(pipes::lay(&mut plan, self.pipes.count())?) } else { None };
        let input = if listens { Some(inputs::lay(&mut plan)?) } else { None };
        let channel = if speaks { Some(ready::lay(&mut plan, app.ready())?) } else { None };
        let notice = if notifies { Some(notify::lay(app, &self.origin.notice(run))?) } else { None };
        let (name, instance) = (app.name.clone(), instance.id);
        let child = spawn::spawn(&plan)?;
        // What it has of its pipes and of its channel is the child's alone from here on.
        drop(plan);
        if let Some(writer) = input {
            self.inputs.hold(run, writer);
        }
        if let Some(ends) = ends {
            self.hold_pipes(ends, run, instance, child.pid);
        }
        if let Some(channel) = channel {
            self.listen_to(channel, run);
        }
        if let Some(notice) = notice {
            self.take_notice_of(run, notice);
        }
        // The number has been given away: who had it has ended, as somebody else's child.
        self.main_ended(child.pid, End::Unseen);
        let status = child.status;
        let registry = self.poll.registry();
        let watched = registry.register(&mut SourceFd(&status.as_raw_fd()), start_token(run), Interest::READABLE);
        let stage = match &watched {
            Ok(()) => Stage::Starting(status),
            Err(why) => {
                warn!("{name}: cannot watch its start, taking it for online: {why}");
                Stage::Running
            }
        };
        self.runs.add(Entry { run, instance, half, pid: child.pid, stage, killed: false });
        Ok((child.pid, watched.is_ok()))
    }

    fn signal(&mut self, run: RunId, sig: Sig, scope: Scope) {
        if self.runs.withdraw(run) {
            return self.happened(Event::Exited { run, end: End::Signal(sig), oom: Oom::No, leftovers: false });
        }
        let Some(entry) = self.runs.by_run_mut(run) else { return };
        entry.killed |= sig == Sig::KILL && scope == Scope::Tree;
        let (pid, lingering) = (entry.pid, matches!(entry.stage, Stage::Lingering));
        let targets = match scope {
            Scope::Process if lingering => Vec::new(),
            Scope::Process => {
                if let Some(process) = self.runs.process(run) {
                    told(process.signal(sig), pid, sig);
                    return;
                }
                vec![pid]
            }
            Scope::Tree => {
                if !self.looked {
                    self.look_around();
                }
                self.tree(run)
            }
        };
        targets.into_iter().for_each(|pid| send(pid, sig));
        // What was alive at the exit may be gone by now, reaped before anyone lingered for it.
        if lingering {
            self.look_after_lingering();
        }
    }

    /// Looks what keeps another run from starting beside this one.
    fn survey(&mut self, run: RunId) {
        self.look_around();
        let known = self.supervisor.of_run(run);
        // A next run that binds its own ports cannot, where pm3's slots are.
        let ours = if known.is_some_and(|(app, _)| app.owns_ports()) { Vec::new() } else { self.slots.inodes() };
        let obstacle = survey::obstacle(&self.tree(run), ours);
        self.happened(Event::Surveyed { run, obstacle });
    }

    /// Signals all that is left, whoever started it.
    fn sweep(&mut self, sig: Sig) {
        let count = self.signal_everything(sig);
        if count > 0 {
            info!("{count} {} left, sending {sig}", if count == 1 { "process is" } else { "processes are" });
        }
        self.swept = sig == Sig::KILL;
        self.reap();
    }

    /// How many there were.
    pub(super) fn signal_everything(&mut self, sig: Sig) -> usize {
        let mut left = Vec::new();
        self.processes.everything(&mut left);
        left.retain(|pid| !self.roles.has(*pid));
        left.iter().for_each(|pid| send(*pid, sig));
        left.len()
    }

    fn end(&mut self, code: u8, reason: &str) {
        info!("exit {code}: {reason}");
        let culprit = self.supervisor.at_fault().filter(|_| code != 0);
        let failed = culprit.and_then(|(app, one)| Some(format!("{}: {}\n", one.who(app), one.reason.as_deref()?)));
        let text = format!("pm3: exit {code}: {reason}\n{}", failed.unwrap_or_default());
        self.leave(text, culprit.map(|(_, one)| one.id));
        self.server.close();
        // Whoever wanted to know something is not connected any more.
        self.questions.clear();
        self.finish_roles();
        self.exit = Some(code);
    }

    /// An app has given up: should pm3 be killed before it can say more, this stands where Kubernetes looks.
    fn leave_failure(&mut self, note: &Note) {
        let What::Errored { reason, .. } = &note.what else { return };
        // Who only waits for another is not to blame.
        if !matches!(reason, Reason::Requires(_)) {
            self.leave(format!("pm3: {note}\n"), note.id);
        }
    }

    /// Leaves a text in the termination log, if there is one, and has the logger add the last lines of who is to blame.
    fn leave(&mut self, text: String, id: Option<InstanceId>) {
        let Some(path) = self.supervisor.settings().termination_log.clone() else { return };
        if let Err(error) = say::leave(Path::new(&*path), text.as_bytes()) {
            return warn!("cannot write the reason to termination_log {path}: {}", why(errno::of(&error)));
        }
        self.tell(Role::Logger, &Tell::Leave { path, text: text.into(), id }, None);
    }
}

/// A process that is gone by now needs no signal; one that refuses it is worth a line.
pub(super) fn send(pid: u32, sig: Sig) {
    told(kill::process(pid, sig), pid, sig);
}

fn told(sent: Sent, pid: u32, sig: Sig) {
    if sent == Sent::Refused {
        warn!("cannot send {sig} to pid {pid}: operation not permitted");
    }
}

/// The supervisor ordered a start and then forgot the instance: a fault, which ends the run at least.
fn vanished() -> Failure {
    Failure {
        stage: event::Stage::Prepare,
        object: "".into(),
        errno: 0,
        why: "its entry is gone".into(),
        passing: false,
    }
}

fn tell(note: &Note) {
    match note.what {
        What::Errored { .. } | What::Fault(_) => error!("{note}"),
        What::Restarting { .. }
        | What::Killing
        | What::ReloadFailed { .. }
        | What::NeverReady { .. }
        | What::Quarantined { .. }
        | What::Unhealthy { .. } => {
            warn!("{note}")
        }
        What::Waiting { .. }
        | What::Online { .. }
        | What::Finished { .. }
        | What::Reloading { .. }
        | What::OnTrial { .. }
        | What::Preparing { .. }
        | What::StandsBy { .. }
        | What::TakesOver { .. }
        | What::Held { .. }
        | What::Succeeded { .. }
        | What::NewWasDone { .. }
        | What::Stopped
        | What::Stopping { .. }
        | What::Draining { .. }
        | What::Leftovers { .. }
        | What::Healthy
        | What::Proven { .. }
        | What::Pm3(_) => info!("{note}"),
    }
}
