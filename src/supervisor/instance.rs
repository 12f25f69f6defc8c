//! One of an app's places: its state, its goal and what each event makes of them. An instance knows nothing of the
//! others; who may start, stop or go first is decided above (`graph`, `rollout`, `shutdown`). What a second run beside
//! the first means is told in `reload`.

use serde::{Deserialize, Serialize};

use super::event::{Effect, End, Failure, Half, InstanceId, Millis, Mono, Note, Oom, Reason, RunId, Span, What};
use super::history::Past;
use super::life::{Life, Phase};
use super::policy::{self, Ended, Record, Verdict};
use super::reload::{Part, Roll, Second, Survey};
use super::spec::AppSpec;

/// What is wanted of an instance. The state follows as fast as processes allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    Run,
    /// Not started by itself (`autostart = false`); a schedule, a dependant or an operator may.
    Idle,
    /// Stopped by an operator, and only an operator starts it again.
    Stop,
    /// To be stopped and forgotten.
    Remove,
}

/// Where an instance stands. Each variant carries exactly what is true in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It is to run, and waits for that app; None: for this step to start it.
    Waiting {
        on: Option<Box<str>>,
    },
    /// It has a run.
    Alive(Life),
    /// Ended in a way that may be the first sign of pm3's own end (`policy::may_be_a_stop`): judged later.
    Settling {
        ended: Ended,
        until: Mono,
    },
    Backoff {
        until: Mono,
    },
    Stopped,
    /// Failed for good; `code` is what pm3 would exit with.
    Errored {
        code: u8,
        at: Mono,
    },
    Finished {
        code: u8,
    },
}

/// What follows when the last process of an ended run is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// It was asked to end: do what the goal says.
    Goal,
    /// It ended by itself: judge it, at this moment or later.
    Judge { ended: Ended, at: Mono },
    /// It ended by itself, and that is forgiven: do what the goal says.
    Forgiven,
}

/// How a main process ended, and whether it left others of its tree behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub end: End,
    pub oom: Oom,
    pub leftovers: bool,
}

/// To be started in this step, unless another app has to come first.
const READY: State = State::Waiting { on: None };

/// The facts that every transition needs.
pub struct Turn<'a> {
    pub now: Mono,
    pub settle: Millis,
    /// For jitter: drawn anew each turn.
    pub random: u32,
    pub out: &'a mut Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    /// Its number within the app, `NODE_APP_INSTANCE`: the lowest that was free.
    pub index: u32,
    pub goal: Goal,
    /// It takes the place of another one that dies, and does not serve until then.
    #[serde(default)]
    pub spare: bool,
    pub state: State,
    /// Which half of its pair `state` is about; the next run starts there.
    #[serde(default)]
    pub half: Half,
    /// The run on the other half, while there is one.
    #[serde(default)]
    pub second: Option<Box<Second>>,
    /// How often a run followed another without an operator stopping it in between (PM2's ↺).
    pub restarts: u32,
    pub record: Record,
    /// Why the last run ended or did not start.
    pub reason: Option<Box<Reason>>,
    /// The last run's end, for the exit code.
    pub last_end: Option<End>,
    /// To get a new run as soon as it is this instance's turn.
    pub roll: Option<Box<Roll>>,
    /// Bytes at the last sample.
    pub usage: u64,
    pub created: Mono,
    /// The run before, or another instance's, listens: the next one is online when it listens, too.
    #[serde(default)]
    pub expected: bool,
    /// Its next run comes on this half, though a run with clients is leaving it: that is so of the other half as well.
    #[serde(default)]
    pub stays: bool,
    /// It has its turn to get a new run (`rollout`).
    #[serde(default)]
    pub rolling: bool,
    /// The last runs that have ended, the newest last. Exactly as large as it is: there may be thousands.
    pub past: Box<[Past]>,
}

impl Instance {
    pub fn new(id: InstanceId, index: u32, goal: Goal, now: Mono) -> Instance {
        let state = if goal == Goal::Run { READY } else { State::Stopped };
        Instance {
            id,
            index,
            goal,
            spare: false,
            state,
            half: Half::default(),
            second: None,
            restarts: 0,
            record: Record::default(),
            reason: None,
            last_end: None,
            roll: None,
            usage: 0,
            created: now,
            expected: false,
            stays: false,
            rolling: false,
            past: Box::default(),
        }
    }

    /// The app's name, with the instance's number where there are several.
    pub fn who(&self, app: &AppSpec) -> Box<str> {
        if app.is_several() { format!("{}-{}", app.name, self.index).into() } else { app.name.clone() }
    }

    /// Its run, from the order to start it until the last process is gone.
    pub fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Alive(life) => Some(life),
            State::Waiting { .. }
            | State::Settling { .. }
            | State::Backoff { .. }
            | State::Stopped
            | State::Errored { .. }
            | State::Finished { .. } => None,
        }
    }

    /// The instance's run, which has a process or is about to. A second one is not meant.
    pub fn run(&self) -> Option<RunId> {
        self.life().map(|life| life.run)
    }

    /// This run is on either half.
    pub fn has_run(&self, run: RunId) -> bool {
        self.life_of(run).is_some()
    }

    /// Some process of it may still be there.
    pub fn has_processes(&self) -> bool {
        self.life().is_some() || self.second.is_some()
    }

    /// The pid of the main process, 0 without one.
    pub fn pid(&self) -> u32 {
        self.life().map_or(0, Life::main)
    }

    /// Its program executes and is ready, as far as that is waited for, and nobody has asked it to end.
    pub fn is_online(&self) -> bool {
        self.life().is_some_and(|life| life.phase == Phase::Online)
    }

    /// This run, on either half.
    pub fn life_of(&self, run: RunId) -> Option<&Life> {
        let mut lives = self.life().into_iter().chain(self.second.as_deref().map(|second| &second.life));
        lives.find(|life| life.run == run)
    }

    /// It runs, or is about to, and nobody has asked it to end.
    pub fn is_up_or_coming(&self) -> bool {
        self.life().is_some_and(Life::is_up_or_coming)
    }

    /// The word for its state: PM2's where PM2 has one.
    pub fn status(&self) -> &'static str {
        match self.state {
            State::Waiting { .. } => "waiting",
            State::Alive(life) => match life.phase {
                Phase::Launching | Phase::Preparing { .. } => "launching",
                Phase::Standby { .. } => "standby",
                Phase::Online => "online",
                Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Clearing { .. } => "stopping",
            },
            State::Settling { .. } | State::Backoff { .. } => "waiting restart",
            State::Stopped => "stopped",
            State::Errored { .. } => "errored",
            State::Finished { .. } => "finished",
        }
    }

    /// The moment at which time itself changes something here.
    pub fn deadline(&self, app: &AppSpec) -> Option<Mono> {
        let roll = self.roll.as_deref().filter(|_| self.is_in_place()).and_then(Roll::deadline);
        let others = [self.second.as_deref().and_then(Second::deadline), roll, self.proven_at(app)];
        self.own_deadline().into_iter().chain(others.into_iter().flatten()).min()
    }

    fn own_deadline(&self) -> Option<Mono> {
        match self.state {
            State::Alive(life) => life.deadline(),
            State::Settling { until, .. } | State::Backoff { until } => Some(until),
            State::Waiting { .. } | State::Stopped | State::Errored { .. } | State::Finished { .. } => None,
        }
    }

    /// It neither runs nor will run again by itself.
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Stopped | State::Errored { .. } | State::Finished { .. } => self.second.is_none(),
            State::Waiting { .. } | State::Alive(_) | State::Settling { .. } | State::Backoff { .. } => false,
        }
    }

    /// It has no run and would get one by itself.
    pub fn is_between_runs(&self) -> bool {
        match self.state {
            State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => true,
            State::Alive(_) | State::Stopped | State::Errored { .. } | State::Finished { .. } => false,
        }
    }

    /// Errored only because an app that it requires is.
    pub fn is_held_by_another(&self) -> bool {
        matches!((&self.state, self.reason.as_deref()), (State::Errored { .. }, Some(Reason::Requires(_))))
    }

    pub(super) fn note(&self, app: &AppSpec, turn: &mut Turn<'_>, what: What) {
        turn.out.push(Effect::Note(Note { who: self.who(app), id: Some(self.id), what }));
    }

    // What is asked of it.

    /// Order the start of a new run.
    pub fn launch(&mut self, run: RunId, turn: &mut Turn<'_>) {
        self.state = State::Alive(Life::new(run, turn.now));
        self.roll.take_if(|roll| roll.share.is_none());
        self.usage = 0;
        turn.out.push(Effect::Spawn { run, instance: self.id, half: self.half });
    }

    /// It may not start before that app is up.
    pub fn wait(&mut self, other: &str, app: &AppSpec, turn: &mut Turn<'_>) -> bool {
        if matches!(&self.state, State::Waiting { on: Some(on) } if **on == *other) {
            return false;
        }
        self.state = State::Waiting { on: Some(other.into()) };
        self.note(app, turn, What::Waiting { on: other.into() });
        true
    }

    /// It cannot start: an app that it requires has failed for good, and so has this one, with the same code.
    pub fn hold(&mut self, other: &str, code: u8, app: &AppSpec, turn: &mut Turn<'_>) -> bool {
        if self.is_held_by_another() {
            return false;
        }
        self.reason = Some(Box::new(Reason::Requires(other.into())));
        self.err(code, app, turn);
        true
    }

    /// What held it is over: it is to run as before.
    pub fn release(&mut self) {
        self.state = READY;
    }

    /// An operator or the file wants it to run: old crashes are forgiven.
    pub fn start(&mut self) {
        self.goal = Goal::Run;
        self.record = Record::default();
        self.stays = self.both_leave();
        self.forgive();
        if self.is_unfit() {
            self.reason = None;
        }
        match self.state {
            State::Stopped
            | State::Errored { .. }
            | State::Finished { .. }
            | State::Backoff { .. }
            | State::Settling { .. } => self.state = READY,
            State::Waiting { .. } | State::Alive(_) => {}
        }
    }

    /// A run that ended by itself and was not judged yet never will be.
    pub fn forgive(&mut self) {
        if let State::Alive(Life { phase: Phase::Clearing { next: next @ Next::Judge { .. }, .. }, .. }) =
            &mut self.state
        {
            *next = Next::Forgiven;
        }
    }

    /// End it; what follows is up to the goal, which the caller has set. `gently`: another run serves its clients, or will.
    pub fn stop(&mut self, reason: Reason, gently: bool, app: &AppSpec, turn: &mut Turn<'_>) {
        self.roll = None;
        if self.life().is_none() {
            // What is on the other half stands for the instance from now on.
            self.stop_second(reason.clone(), gently, app, turn);
        }
        match &mut self.state {
            State::Alive(life) => {
                if life.stop(&app.stop, gently, turn) {
                    let phase = life.phase;
                    self.tell_leaving(phase, &reason, app, turn);
                    self.reason = Some(Box::new(reason.clone()));
                }
                // The processes of a run that has ended are on their way out already; then the goal decides.
                self.forgive();
            }
            State::Waiting { .. } | State::Settling { .. } | State::Backoff { .. } => {
                self.reason = Some(Box::new(reason.clone()));
                if !self.fall_back() {
                    self.state = State::Stopped;
                    self.note(app, turn, What::Stopped);
                }
            }
            // Its own end says more than that it was stopped afterwards; only the word changes.
            State::Errored { .. } | State::Finished { .. } => {
                if !self.fall_back() {
                    self.state = State::Stopped;
                }
            }
            State::Stopped => {}
        }
        self.stop_second(reason, gently, app, turn);
        self.stays = self.both_leave();
    }

    /// End it now, without grace.
    pub fn kill(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let second = self.second.as_deref_mut().map(|second| {
            second.part = Part::Leaving;
            &mut second.life
        });
        let lives = if let State::Alive(life) = &mut self.state { [Some(life), second] } else { [None, second] };
        let mut killed = false;
        lives.into_iter().flatten().for_each(|life| killed |= life.kill(&app.stop, turn));
        if killed {
            self.note(app, turn, What::Killing);
        }
    }

    // What happens to it.

    pub fn spawned(&mut self, run: RunId, pid: u32) {
        if let Some(second) = self.second_mut(run) {
            second.life.spawned(pid);
        } else if let State::Alive(life) = &mut self.state {
            life.spawned(pid);
        }
    }

    pub fn executed(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.second_mut(run).is_some() {
            self.second_executed(app, turn);
        } else if let State::Alive(life) = &mut self.state
            && life.executed(app, self.expected, turn.now)
        {
            if self.spare {
                life.phase = Phase::Preparing { until: turn.now.after(app.listens_within().span()) };
            } else if self.is_online() {
                self.came_online(app, turn);
            }
        }
    }

    /// It says that it is ready.
    pub fn ready(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.second_mut(run).is_some() {
            self.second_ready(app, turn);
        } else if let State::Alive(life) = &mut self.state
            && if self.spare { life.is_ready_early() } else { life.ready() }
        {
            self.came_online(app, turn);
        }
    }

    pub(super) fn came_online(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        self.expected = false;
        self.tell_online(app, turn);
        self.mark_anew(app, turn.now);
    }

    pub fn spawn_failed(&mut self, run: RunId, failure: Failure, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.second_mut(run).is_some() {
            return self.second_failed(failure, app, turn);
        }
        let (passing, code) = (failure.passing, failure.exit_code());
        self.last_end = Some(End::Code(code));
        if let Some(life) = self.life().copied().filter(Life::is_up_or_coming) {
            let failed = self.failed_to_stand_by(&failure).unwrap_or_else(|| Reason::StartFailed(Box::new(failure)));
            self.remember(&life, failed.clone(), turn.now);
            self.reason = Some(Box::new(failed));
            if passing {
                let after = policy::refused(app, &mut self.record, turn.random);
                self.back_off(after, app, turn);
            } else {
                self.err(code, app, turn);
            }
        } else {
            if let Some(life) = self.life().copied() {
                self.remember_stop(&life, turn.now);
            }
            self.follow_goal(app, turn);
        }
    }

    pub fn exited(&mut self, run: RunId, exit: Exit, app: &AppSpec, turn: &mut Turn<'_>) {
        let Exit { end, oom, leftovers } = exit;
        if self.second_mut(run).is_some() {
            return self.second_exited(exit, app, turn);
        }
        self.last_end = Some(end);
        self.usage = 0;
        if self.succeed(exit, app, turn) {
            return;
        }
        let Some(life) = self.life().copied() else { return };
        let next = if life.is_up_or_coming() {
            self.remember(&life, Reason::of_end(end, oom), turn.now);
            let ran = Millis::between(life.since, turn.now);
            let at = if policy::may_be_a_stop(app, end) { turn.now.after(turn.settle.span()) } else { turn.now };
            Next::Judge { ended: Ended { end, oom, ran }, at }
        } else {
            self.remember_stop(&life, turn.now);
            Next::Goal
        };
        if !(leftovers && app.stop.tree) {
            return self.follow(next, app, turn);
        }
        let State::Alive(life) = &mut self.state else { return };
        let sig = life.clear(next, &app.stop, turn);
        self.note(app, turn, What::Leftovers { sig });
    }

    /// The last process of the run is gone.
    pub fn cleared(&mut self, run: RunId, app: &AppSpec, turn: &mut Turn<'_>) {
        if self.second_mut(run).is_some() {
            self.second = None;
        } else if let State::Alive(Life { phase: Phase::Clearing { next, .. }, .. }) = self.state {
            self.follow(next, app, turn);
        }
    }

    fn follow(&mut self, next: Next, app: &AppSpec, turn: &mut Turn<'_>) {
        match next {
            Next::Goal | Next::Forgiven => self.follow_goal(app, turn),
            Next::Judge { ended, at } if at > turn.now => self.state = State::Settling { ended, until: at },
            Next::Judge { ended, .. } => self.judge(ended, app, turn),
        }
    }

    /// Time has come for what `deadline` named.
    pub fn due(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        let now = turn.now;
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        if let Some(roll) = self.roll.as_deref_mut().filter(|roll| is_due(roll.deadline())) {
            roll.survey = Survey::Due;
        }
        if is_due(self.second.as_deref().and_then(Second::deadline)) {
            self.second_due(app, turn);
        }
        if is_due(self.proven_at(app)) {
            self.prove(app, turn);
        }
        if !is_due(self.own_deadline()) {
            return;
        }
        match &mut self.state {
            State::Alive(life) => {
                if let Some(span) = life.preparing().filter(|_| self.spare) {
                    self.unfit(format!("opened no port within {}, see listen_timeout", Span(span)).into(), app, turn);
                } else if let Some(span) = life.preparing() {
                    // As PM2. An app that has never said it must not be away because of that.
                    life.ready();
                    self.note(app, turn, What::NeverReady { span });
                    self.came_online(app, turn);
                } else if let Phase::Standby { .. } = life.phase {
                    self.aged(app, turn);
                } else if let Phase::Draining { .. } = life.phase {
                    let run = life.run;
                    self.drained(run, app, turn);
                } else if life.kill(&app.stop, turn) {
                    let why = self.reason.as_deref_mut().filter(|_| life.is_stopping());
                    why.into_iter().for_each(|why| *why = policy::killed(app, why.clone()));
                    self.note(app, turn, What::Killing);
                }
            }
            State::Settling { ended, .. } => {
                let ended = *ended;
                self.judge(ended, app, turn);
            }
            State::Backoff { .. } => self.state = READY,
            State::Waiting { .. } | State::Stopped | State::Errored { .. } | State::Finished { .. } => {}
        }
    }

    fn judge(&mut self, ended: Ended, app: &AppSpec, turn: &mut Turn<'_>) {
        self.reason = Some(Box::new(Reason::of_end(ended.end, ended.oom)));
        match policy::judge(app, &mut self.record, ended, turn.random) {
            Verdict::Restart { after } => {
                self.restarts = self.restarts.saturating_add(1);
                self.back_off(after, app, turn);
            }
            Verdict::Finished => {
                self.state = State::Finished { code: ended.end.exit_code() };
                self.note(app, turn, What::Finished { end: ended.end });
            }
            Verdict::Errored => self.err(ended.end.exit_code(), app, turn),
        }
    }

    fn back_off(&mut self, after: Millis, app: &AppSpec, turn: &mut Turn<'_>) {
        if let Some(reason) = self.reason.as_deref().cloned() {
            self.note(app, turn, What::Restarting { reason, after });
        }
        self.state = State::Backoff { until: turn.now.after(after.span()) };
    }

    /// Failed for good, for `self.reason`.
    pub fn err(&mut self, code: u8, app: &AppSpec, turn: &mut Turn<'_>) {
        self.state = State::Errored { code, at: turn.now };
        if let Some(reason) = self.reason.as_deref().cloned() {
            self.note(app, turn, What::Errored { reason, unstable: self.record.unstable });
        }
        if self.spare {
            self.tell_lost(app, turn);
        }
    }

    fn follow_goal(&mut self, app: &AppSpec, turn: &mut Turn<'_>) {
        // What is left on the other half was asked to end, too, and what follows waits for both.
        if self.fall_back() {
            return;
        }
        match self.goal {
            Goal::Run if self.is_unfit() => self.err(1, app, turn),
            Goal::Run => {
                self.restarts = self.restarts.saturating_add(1);
                if self.changes_halves() {
                    self.half = self.half.other();
                    self.expected = true;
                }
                self.expected |= std::mem::take(&mut self.stays);
                self.state = READY;
            }
            Goal::Idle | Goal::Stop | Goal::Remove => {
                self.state = State::Stopped;
                self.note(app, turn, What::Stopped);
            }
        }
    }
}
