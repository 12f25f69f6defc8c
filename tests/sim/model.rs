//! What the simulation believes about every instance, from the events and effects that it saw. Written from the
//! documents, not from the supervisor's code: where the two disagree, one of them is wrong.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pm3::supervisor::event::{ClientId, End, Half, InstanceId, Millis, Mono, RunId, Verb};
use pm3::supervisor::spec::{AppSpec, Kind, Restart, Spec};

use crate::asks::Ask;
use crate::entries::Known;
use crate::kernel::millis;
use crate::run::{Run, Unjudged};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Run,
    Idle,
    Stop,
    Remove,
}

/// What stands between an instance without a run and its next one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    Open,
    Settling(Unjudged),
    /// Judged in this step; the supervisor has to say a wait between these, in ms.
    Told {
        least: u64,
        most: u64,
    },
    From(Mono),
    Errored {
        code: u8,
        at: Mono,
    },
    Finished(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Memory,
    Cron,
    Changed,
    Watched,
    Operator,
    /// Its probes fail.
    Unhealthy,
    /// It does not say that it is alive.
    Silent,
    /// It says that it is not well.
    Tired,
}

/// Which run is there first, where a new one follows an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Old,
    New,
}

/// To get a new run, one instance at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) why: Why,
    /// Who asked for it, if an operator did.
    pub(crate) by: Option<ClientId>,
    pub(crate) first: First,
    /// An operator has said which is first.
    pub(crate) told: bool,
    /// Nobody is asked before, what the old run listens on.
    pub(crate) from: Option<Mono>,
    pub(crate) asked: bool,
    /// Something is in the way of two runs at once.
    pub(crate) answer: Option<bool>,
    /// It may have been called off: who asked for it is told so, perhaps only later.
    pub(crate) doubtful: bool,
    /// So many of its app at once, where somebody has said so.
    pub(crate) parallel: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: InstanceId,
    /// Its app as the file last described it.
    pub(crate) spec: Rc<AppSpec>,
    pub(crate) index: u32,
    pub(crate) goal: Goal,
    pub(crate) run: Option<Run>,
    /// Another run beside it: the one that is to follow it, or one that has to go.
    pub(crate) second: Option<Run>,
    /// Which half of the pair `run` has, or the next one will.
    pub(crate) half: Half,
    pub(crate) gate: Gate,
    /// It is errored for want of another, with one of these codes; what becomes of the other's instances later does not
    /// change them.
    pub(crate) held: Option<Vec<u8>>,
    /// How often a run followed another.
    pub(crate) restarts: u32,
    pub(crate) shorts: u32,
    pub(crate) wait: u64,
    pub(crate) mark: Option<Mark>,
    /// After a second run that failed: none is tried unasked before this.
    pub(crate) retry_at: Mono,
    /// Its second run failed in this step.
    pub(crate) failed: bool,
    /// Its second run ended as the file lets it, and nobody has wanted another since.
    pub(crate) was_done: bool,
    /// Is being restarted, and the other instances wait for it.
    pub(crate) turn: bool,
    /// Its next run is online when it listens, as the one before it did, or those of other instances do.
    pub(crate) expected: bool,
    /// It was wanted again while runs with clients left both halves: the next comes where the newer of them is, unless
    /// that is the last to go.
    pub(crate) stays: bool,
    /// When it was asked to stop, others served for it.
    pub(crate) gently: bool,
    /// Where the next run was said to come, after the last step.
    pub(crate) coming: Option<Half>,
    pub(crate) last_code: Option<u8>,
    pub(crate) usage: u64,
}

/// The word that `Instance::state` should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Waiting,
    Launching,
    Online,
    Stopping,
    Clearing,
    Settling,
    Backoff,
    Stopped,
    Errored,
    Finished,
}

#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The codes that pm3 may end with; None: it was asked to, and the apps say.
    pub(crate) codes: Option<Vec<u8>>,
    pub(crate) begun: Mono,
    pub(crate) budget_end: Mono,
    pub(crate) signals: u32,
    pub(crate) asked_all: Option<Mono>,
    pub(crate) killed_all: Option<Mono>,
    /// Whether some app still ran when the budget ended.
    pub(crate) over_budget: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    /// The apps that are there now, whoever brought them, and the settings.
    pub(crate) spec: Spec,
    pub(crate) known: BTreeMap<Box<str>, Known>,
    /// In the order of their ids.
    pub(crate) places: Vec<Place>,
    pub(crate) next_id: u32,
    pub(crate) asks: BTreeMap<ClientId, Ask>,
    pub(crate) cron_at: BTreeMap<Box<str>, Mono>,
    pub(crate) ending: Option<Ending>,
    pub(crate) last_run: RunId,
}

/// What a new run has to prove beside an old one: that it is no short one, in 3 s at most.
pub(crate) fn trial(app: &AppSpec) -> Duration {
    millis(u64::from(app.restart.min_uptime.0).min(3_000))
}

/// Two runs at once are not for jobs, nor for whom `overlap` forbids it.
pub(crate) fn may_overlap(app: &AppSpec) -> bool {
    app.overlap != Some(false) && app.kind == Kind::Service && app.restart.when != Restart::Never
}

/// An end after which nothing follows.
pub(crate) fn is_final(app: &AppSpec, end: End) -> bool {
    let End::Code(code) = end else { return false };
    app.restart.stop_exit_codes.contains(&code) || code == 0 && app.restart.when != Restart::Always
}

impl Place {
    pub(crate) fn new(id: InstanceId, spec: &AppSpec, index: u32) -> Place {
        Place {
            id,
            spec: Rc::new(spec.clone()),
            index,
            goal: if spec.autostart { Goal::Run } else { Goal::Idle },
            run: None,
            second: None,
            half: Half::First,
            gate: Gate::Open,
            held: None,
            restarts: 0,
            shorts: 0,
            wait: 0,
            mark: None,
            retry_at: Mono(0),
            failed: false,
            was_done: false,
            turn: false,
            expected: false,
            stays: false,
            gently: false,
            coming: None,
            last_code: None,
            usage: 0,
        }
    }

    /// The name that messages use.
    pub(crate) fn who(&self) -> String {
        let name = &self.spec.name;
        if self.spec.instances > 1 { format!("{name}-{}", self.index) } else { name.to_string() }
    }

    /// A run that was asked to end is over: the next follows, if there is to be one. A second run that has still to go
    /// stands for the instance meanwhile. After one that had clients, the next comes on the other half, for its own.
    pub(crate) fn make_way(&mut self, run: Option<Run>, pm3_ends: bool) {
        self.gate = Gate::Open;
        if self.second.is_some() {
            return self.fall_back();
        }
        let follows = self.goal == Goal::Run && !pm3_ends;
        self.restarts += u32::from(follows);
        if follows && run.is_some_and(|run| run.leaves_clients()) {
            self.expected = true;
            self.half = if self.stays { self.half } else { self.half.other() };
        }
        self.stays &= !follows;
    }

    pub(crate) fn fall_back(&mut self) {
        self.run = self.second.take();
        (self.half, self.stays) = (self.half.other(), false);
    }

    /// Wants a new run for it, in its turn.
    pub(crate) fn want(&mut self, why: Why, verb: Option<Verb>, now: Mono) {
        let new_first = may_overlap(&self.spec)
            && match (verb, why) {
                (Some(verb), _) => verb == Verb::Reload,
                (None, Why::Changed) => true,
                (None, Why::Memory | Why::Cron | Why::Watched | Why::Unhealthy | Why::Silent | Why::Tired) => {
                    let listens = self.run.as_ref().is_some_and(|run| run.listens);
                    self.spec.overlap == Some(true) || listens
                }
                (None, Why::Operator) => false,
            };
        let first = if new_first { First::New } else { First::Old };
        self.was_done = false;
        self.mark = Some(Mark {
            why,
            by: None,
            first,
            told: verb.is_some(),
            from: None,
            asked: false,
            answer: None,
            doubtful: false,
            parallel: None,
        });
        self.wait_for_age(now);
    }

    /// Its files have changed after its newest run began, or after its last run ended: it gets a new one, now or in its
    /// turn. True if that is now, unless others of its tree have to go first.
    pub(crate) fn see_change(&mut self, at: Mono, now: Mono) -> bool {
        if !self.is_up_or_coming() {
            let unjudged = self.run.as_ref().and_then(|run| run.leftovers.as_ref()?.unjudged);
            let starts = unjudged.is_some() || self.run.is_none() && !matches!(self.gate, Gate::Open);
            if starts {
                self.start();
            }
            return starts;
        }
        let successor = self.successor().map(|run| run.spawned_at);
        let began = successor.or(self.run.as_ref().map(|run| run.spawned_at));
        match &mut self.mark {
            _ if began.is_none_or(|began| began >= at) => {}
            // It is on its way, however that was asked for, and is not called off any more.
            Some(Mark { why: Why::Changed, .. }) => {}
            Some(mark) => mark.why = Why::Watched,
            // A reload that is under way is not broken off.
            None => self.want(Why::Watched, successor.map(|_| Verb::Reload), now),
        }
        false
    }

    /// A program that has just begun may not have bound its port yet, unless it is known to listen.
    pub(crate) fn wait_for_age(&mut self, now: Mono) {
        let asks = self.spec.overlap != Some(true);
        let online =
            self.run.as_ref().filter(|run| run.is_up_or_coming() && run.online_since.is_some() && !run.listens);
        let began = online.and_then(|run| run.began);
        if let Some(mark) = &mut self.mark {
            (mark.asked, mark.answer) = (false, None);
            let from = began.map(|since| since.after(trial(&self.spec)));
            mark.from = from.filter(|from| asks && mark.first == First::New && *from > now);
        }
    }

    /// The run that is to follow.
    pub(crate) fn successor(&self) -> Option<&Run> {
        self.second.as_ref().filter(|run| run.is_up_or_coming() && !run.replaced && !run.late)
    }

    /// The second run takes the place of the first, which is handed out.
    pub(crate) fn replace(&mut self, now: Mono) -> Option<Run> {
        let mut old = self.run.take()?;
        self.fall_back();
        self.restarts += 1;
        self.usage = 0;
        old.replaced = true;
        self.wait_for_age(now);
        Some(old)
    }

    /// The second run has ended, and the first goes on.
    pub(crate) fn second_ended(&mut self, end: End, now: Mono) {
        self.reload_failed(now);
        if is_final(&self.spec, end) {
            (self.failed, self.was_done) = (false, true);
        }
    }

    /// The second run is no more, and the first goes on.
    pub(crate) fn reload_failed(&mut self, now: Mono) {
        (self.failed, self.turn) = (true, false);
        self.retry_at = now.after(millis(15_000));
    }

    /// Somebody wants it to run; its past is forgiven.
    pub(crate) fn start(&mut self) {
        (self.goal, self.shorts, self.wait, self.retry_at) = (Goal::Run, 0, 0, Mono(0));
        self.stays = self.both_leave();
        self.forgive();
    }

    /// Runs with clients leave both halves.
    pub(crate) fn both_leave(&self) -> bool {
        [&self.run, &self.second].iter().all(|run| run.as_ref().is_some_and(Run::leaves_clients))
    }

    /// The run after which one counts as what `start` wants: the present one does.
    pub(crate) fn newest_before(&self, last_run: RunId) -> RunId {
        let up = self.run.as_ref().filter(|_| self.is_up_or_coming());
        up.map_or(last_run, |run| RunId(run.id.0 - 1))
    }

    /// A crash that was not judged yet never will be.
    pub(crate) fn forgive(&mut self) {
        (self.gate, self.held) = (Gate::Open, None);
        if let Some(leftovers) = self.run.as_mut().and_then(|run| run.leftovers.as_mut()) {
            leftovers.unjudged = None;
        }
    }

    /// Somebody wants it to end; `gently`: others serve its clients.
    pub(crate) fn stop(&mut self, goal: Goal, gently: bool) {
        (self.goal, self.mark, self.gently) = (goal, None, gently);
        self.forgive();
        // Nothing follows by itself; what has still to go stands for the instance.
        if self.run.is_none() && self.second.is_some() {
            self.fall_back();
        }
    }

    /// Its run has a main process that pm3 has not asked to end.
    pub(crate) fn is_up_or_coming(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_up_or_coming)
    }

    pub(crate) fn has_processes(&self) -> bool {
        self.run.is_some() || self.second.is_some()
    }

    pub(crate) fn has_run(&self, id: RunId) -> bool {
        self.run.iter().chain(&self.second).any(|run| run.id == id)
    }

    /// The run of this id, which this place has.
    pub(crate) fn run_mut(&mut self, id: RunId) -> Option<&mut Run> {
        self.run.iter_mut().chain(&mut self.second).find(|run| run.id == id)
    }

    /// The end of a run that ended by itself, by PM2's rules.
    pub(crate) fn judge(&mut self, unjudged: Unjudged, now: Mono) {
        let app = Rc::clone(&self.spec);
        let policy = &app.restart;
        let Unjudged { end, ran_ms, .. } = unjudged;
        let failed = end != End::Code(0);
        let wanted = matches!(end, End::Code(code) if policy.stop_exit_codes.contains(&code));
        let errored = Gate::Errored { code: end.exit_code(), at: now };
        if wanted || policy.when != Restart::Always && !failed {
            // Who requires a one-shot wants it to have succeeded, whatever ends it.
            let done = app.kind == Kind::Service || !failed;
            self.gate = if done { Gate::Finished(end.exit_code()) } else { errored };
            return;
        }
        if policy.when == Restart::Never {
            self.gate = errored;
            return;
        }
        if ran_ms >= 30_000 {
            self.wait = 0;
        }
        self.shorts = if ran_ms < u64::from(policy.min_uptime.0) { self.shorts + 1 } else { 0 };
        if self.shorts >= policy.max_restarts {
            self.gate = errored;
        } else {
            self.restarts += 1;
            self.back_off(policy.backoff);
        }
    }

    /// A start that the machine refused for now.
    pub(crate) fn refused(&mut self) {
        self.back_off(self.spec.restart.backoff.max(Millis(100)));
    }

    fn back_off(&mut self, first: Millis) {
        let policy = &self.spec.restart;
        let first = u64::from(first.0);
        if first > 0 {
            self.wait = if self.wait == 0 { first } else { (self.wait * 3 / 2).min(15_000) };
        }
        let least = if first > 0 { self.wait } else { 0 }.max(u64::from(policy.delay.0));
        self.gate = Gate::Told { least, most: least + least * u64::from(policy.jitter_percent) / 100 };
    }
}

impl Model {
    pub(crate) fn app(&self, name: &str) -> Option<&AppSpec> {
        self.spec.apps.iter().find(|app| *app.name == *name)
    }

    pub(crate) fn of<'a>(&'a self, app: &'a str) -> impl Iterator<Item = &'a Place> + 'a {
        self.places.iter().filter(move |place| *place.spec.name == *app)
    }

    pub(crate) fn place(&self, id: InstanceId) -> Option<&Place> {
        self.places.iter().find(|place| place.id == id)
    }

    pub(crate) fn find(&mut self, run: RunId) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.has_run(run))
    }

    pub(crate) fn status(&self, place: &Place) -> Status {
        if let Some(run) = &place.run {
            return match (&run.leftovers, run.asked, run.online_since) {
                (Some(_), _, _) => Status::Clearing,
                (None, true, _) => Status::Stopping,
                (None, false, Some(_)) => Status::Online,
                (None, false, None) => Status::Launching,
            };
        }
        match place.gate {
            Gate::Settling(_) => Status::Settling,
            Gate::Told { .. } | Gate::From(_) => Status::Backoff,
            Gate::Errored { .. } => Status::Errored,
            Gate::Finished(_) => Status::Finished,
            Gate::Open if self.ending.is_some() || place.goal != Goal::Run => Status::Stopped,
            Gate::Open if place.held.is_some() => Status::Errored,
            Gate::Open => Status::Waiting,
        }
    }

    /// The failed app that a place requires.
    fn held_by(&self, place: &Place) -> Option<&AppSpec> {
        place.spec.requires.iter().filter_map(|name| self.app(name)).find(|other| self.is_failed(other))
    }

    /// Who is errored for want of another that may come up again waits for it, all along a chain.
    pub(crate) fn release(&mut self) {
        let is_free = |model: &Model, place: &Place| place.held.is_some() && model.held_by(place).is_none();
        while let Some(at) = self.places.iter().position(|place| is_free(self, place)) {
            self.places[at].held = None;
        }
    }

    /// Who waits for one that has failed for good has failed, too.
    pub(crate) fn hold(&mut self) {
        let is_lost =
            |model: &Model, place: &Place| model.status(place) == Status::Waiting && model.held_by(place).is_some();
        while let Some(at) = self.places.iter().position(|place| is_lost(self, place)) {
            self.places[at].held = self.held_by(&self.places[at]).map(|root| self.failed_codes(root));
        }
    }

    /// Is being restarted in its turn, and not back yet.
    pub(crate) fn has_turn(&self, place: &Place) -> bool {
        let status = self.status(place);
        let over = matches!(status, Status::Stopped | Status::Errored | Status::Finished);
        let asked = place.mark.is_some_and(|mark| mark.asked);
        let back = status == Status::Online && place.second.is_none() && !asked;
        place.turn && place.goal == Goal::Run && !over && !back
    }

    pub(crate) fn is_over(&self, place: &Place) -> bool {
        let status = self.status(place);
        place.second.is_none() && matches!(status, Status::Stopped | Status::Errored | Status::Finished)
    }

    pub(crate) fn is_up(&self, app: &AppSpec) -> bool {
        let mut kept = self.of(&app.name).filter(|place| place.goal != Goal::Remove);
        match app.kind {
            Kind::Service => kept.any(|place| self.status(place) == Status::Online),
            Kind::Oneshot => kept.all(|place| place.run.is_none() && matches!(place.gate, Gate::Finished(0))),
        }
    }

    /// Has failed those who require it: nothing is up or to come, and something errored; or a service is finished.
    pub(crate) fn is_failed(&self, app: &AppSpec) -> bool {
        let all = |of: &dyn Fn(&Place) -> bool| self.of(&app.name).all(of);
        let errored = !all(&|place| self.status(place) != Status::Errored);
        let ended = app.kind == Kind::Service && app.cron.is_none();
        let finished = ended && all(&|place| self.status(place) == Status::Finished);
        !self.is_up(app) && all(&|place| self.is_over(place)) && (errored || finished)
    }

    /// What an instance may not start before.
    pub(crate) fn awaited(&self, app: &AppSpec) -> Option<String> {
        let required = app.requires.iter().filter_map(|name| self.app(name)).find(|other| !self.is_up(other));
        let mut ordered = app.after.iter().filter_map(|name| self.app(name));
        let ordered = ordered.find(|other| !self.is_up(other) && !self.of(&other.name).all(|one| self.is_over(one)));
        required.or(ordered).map(|other| other.name.to_string())
    }

    /// Whether `later` waits for `earlier` to start, directly or through others.
    pub(crate) fn waits_for(&self, later: &AppSpec, earlier: &str) -> bool {
        let mut names = later.after.iter().chain(&later.requires);
        names.any(|name| **name == *earlier || self.app(name).is_some_and(|app| self.waits_for(app, earlier)))
    }

    /// A place that was started after this app and still has processes.
    pub(crate) fn dependant_alive(&self, app: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.has_processes() && self.waits_for(&place.spec, app))
    }

    /// The moment at which time itself changes something, as far as it is known here; with or without what may have been
    /// called off.
    pub(crate) fn deadline(&self, doubtful: bool) -> Option<Mono> {
        let of = |place: &Place| {
            let own = match (&place.run, place.gate) {
                (Some(run), _) => run.deadline(),
                (None, Gate::Settling(unjudged)) => Some(unjudged.until),
                (None, Gate::From(at)) => Some(at),
                (None, _) => None,
            };
            let trial = place.successor().and_then(|run| run.trial_until);
            let second = trial.or_else(|| place.second.as_ref().and_then(Run::deadline));
            let proven = place.proven_at();
            let mark = place.mark.filter(|mark| place.is_up_or_coming() && (doubtful || !mark.doubtful));
            [own, second, proven, mark.and_then(|mark| mark.from)].into_iter().flatten().min()
        };
        let ending = self.ending.as_ref().map(|ending| match (ending.asked_all, ending.killed_all) {
            (_, Some(at)) => at.after(millis(500)),
            (Some(at), None) => at.after(millis(2_000)).min(ending.budget_end),
            (None, None) => ending.budget_end,
        });
        let crons = self.cron_at.values().copied().filter(|_| self.ending.is_none());
        let runs = self.places.iter().flat_map(|place| place.run.iter().chain(&place.second));
        let health = runs.filter_map(|run| run.care.deadline()).filter(|_| self.ending.is_none());
        self.places.iter().filter_map(of).chain(ending).chain(crons).chain(health).min()
    }
}
