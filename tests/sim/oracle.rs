//! Watches every step of the supervisor and says what it did wrong: each event changes the model, each effect has to
//! be one that the model allows at that moment, and afterwards both must agree on where every instance stands.

use pm3::supervisor::Supervisor;
use pm3::supervisor::checkup::Condition;
use pm3::supervisor::event::{ClientId, Effect, Event, InstanceId, Mono, Reason, RunId, Sig, Verb, What, Wish};
use pm3::supervisor::instance::State;
use pm3::supervisor::life::Phase;
use pm3::supervisor::spec::Spec;

use crate::asks::Wait;
use crate::entries::Known;
use crate::model::{Gate, Goal, Model, Place, Status, Why, trial};

/// What the supervisor did wrong.
pub(crate) type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
pub(crate) use ensure;

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) model: Model,
    pub(crate) gone: Vec<ClientId>,
    /// Told since the sweep began.
    pub(crate) childless: bool,
    pub(crate) exited: bool,
    pub(crate) sample: Sample,
    /// In this step: apps that a client brought, apps that were scaled, signals that clients want sent.
    pub(crate) applied: Vec<Box<str>>,
    pub(crate) scaled: Vec<Box<str>>,
    pub(crate) to_signal: Vec<(RunId, Sig)>,
    /// The apps that were scaled up, and of which nobody has been asked what it has for itself.
    pub(crate) grown: Vec<Box<str>>,
    /// And who starts because its files have changed.
    pub(crate) revived: Vec<String>,
    /// And who has just been found ill, or well again.
    pub(crate) ailing: Option<(String, Condition)>,
    /// Somebody was told that pm3 has ended, which is to be true at once.
    pub(crate) says_goodbye: bool,
}

/// When the next sample of memory may and when it has to come.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) last: Mono,
    pub(crate) earliest: Mono,
    pub(crate) latest: Option<Mono>,
}

impl Oracle {
    pub(crate) fn new(spec: Spec) -> Oracle {
        let known = spec.apps.iter().map(|app| (app.name.clone(), Known { of_file: true, asked: None })).collect();
        Oracle { model: Model { spec, known, ..Model::default() }, ..Oracle::default() }
    }

    /// Judges one step: what happened, what the supervisor wants done, and what it thinks afterwards.
    pub(crate) fn judge(
        &mut self,
        now: Mono,
        event: &Event,
        effects: &[Effect],
        pm3: &Supervisor,
        deadline: Option<Mono>,
    ) -> Verdict {
        ensure!(!self.exited || effects.is_empty(), "something comes after Exit: {effects:?}");
        if self.exited {
            return Ok(());
        }
        let before: Vec<(InstanceId, Status)> = self.statuses();
        self.check_history(event, pm3)?;
        self.hear(now, event);
        let scaled = !self.scaled.is_empty();
        self.meet(pm3, scaled)?;
        if let Event::Request { client, .. } = event {
            self.wait_for_applied(*client);
            self.wait_for_scaled(*client, &before);
        }
        self.let_time_pass(now);
        for (at, effect) in effects.iter().enumerate() {
            self.allow(now, event, effect)?;
            ensure!(!self.exited || at + 1 == effects.len(), "Exit is not the last effect");
        }
        self.grown.clear();
        ensure!(self.to_signal.is_empty(), "signals are not sent: {:?}", self.to_signal);
        ensure!(self.revived.is_empty(), "nobody is told that these start anew: {:?}", self.revived);
        ensure!(self.ailing.is_none(), "nobody is told how it is: {:?}", self.ailing);
        ensure!(!self.says_goodbye, "pm3 goes on after it said that it had ended");
        self.settle(now)?;
        self.hear_told(&before, event, effects)?;
        self.see_called_off(pm3);
        self.agree(pm3)?;
        self.see_coming(pm3);
        self.check_deadline(now, deadline)
    }

    /// The history says which run had to be killed, and of no other that it had to.
    fn check_history(&self, event: &Event, pm3: &Supervisor) -> Verdict {
        let Event::Exited { run, .. } = event else { return Ok(()) };
        let Some(place) = self.model.places.iter().find(|place| place.has_run(*run)) else { return Ok(()) };
        let ended = place.run.iter().chain(&place.second).find(|known| known.id == *run);
        let Some((_, one)) = pm3.instance(place.id) else { return Ok(()) };
        let told = one.past.last().is_some_and(|past| matches!(past.reason, Reason::Killed { .. }));
        let resisted = ended.is_some_and(|ended| ended.resisted);
        ensure!(
            self.model.ending.is_some() || told == resisted,
            "{}: killed, as its history has it: {told}",
            place.who()
        );
        Ok(())
    }

    /// What must not be left so at the end of a step.
    fn settle(&mut self, now: Mono) -> Verdict {
        self.let_time_pass(now);
        for place in &mut self.model.places {
            place.stays |= place.goal == Goal::Run && place.both_leave();
        }
        let over_budget = self.model.ending.as_ref().is_some_and(|ending| ending.budget_end <= now);
        for place in self.model.places.iter() {
            ensure!(!matches!(place.gate, Gate::Told { .. }), "{}: to be restarted, but nobody is told", place.who());
            let restarts = place.run.as_ref().is_some_and(|run| run.asked) && place.successor().is_some();
            ensure!(!restarts, "{}: its run is stopped, and what is to follow it is not", place.who());
            let goes_on = self.model.ending.is_some() && place.successor().is_some();
            ensure!(!goes_on, "{}: a successor while pm3 ends", place.who());
            for run in place.run.iter().chain(&place.second) {
                let has_to_go = run.replaced || run.late;
                ensure!(!has_to_go || !run.is_up_or_coming(), "{}: two runs that both stay", place.who());
                ensure!(
                    run.killed || run.kill_due.is_none_or(|at| at > now) && !over_budget,
                    "{}: outlives its grace",
                    place.who()
                );
                ensure!(
                    run.leftovers.as_ref().is_none_or(|leftovers| leftovers.asked),
                    "{}: leftovers are left",
                    place.who()
                );
                self.check_drained(now, place, run)?;
                let unwanted = matches!(place.goal, Goal::Stop | Goal::Remove);
                ensure!(!unwanted || run.asked || run.leftovers.is_some(), "{}: nobody stops it", place.who());
                if self.model.ending.is_some() && !run.asked && run.leftovers.is_none() {
                    ensure!(
                        self.model.dependant_alive(&place.spec.name).is_some(),
                        "{}: nobody stops it at the end",
                        place.who()
                    );
                }
            }
        }
        self.see_arrivals();
        self.see_doubts();
        let interval = self.model.spec.settings.sample_interval.span();
        self.sample.latest = self.samples().then(|| self.sample.latest.unwrap_or(now.after(interval)));
        let over: Vec<(Status, bool)> =
            self.model.places.iter().map(|place| (self.model.status(place), self.model.has_turn(place))).collect();
        let mut halted = Vec::new();
        for (place, (status, has_turn)) in self.model.places.iter_mut().zip(over) {
            if place.turn && !has_turn && status == Status::Errored || std::mem::take(&mut place.failed) {
                halted.push(place.spec.name.clone());
            }
            place.turn = has_turn;
            // What was still to come does not, once pm3 ends.
            let is_final = matches!(place.gate, Gate::Errored { .. } | Gate::Finished(_));
            if self.model.ending.is_some() && place.run.is_none() && !is_final {
                place.gate = Gate::Open;
                // What has still to go stands for the instance.
                if place.second.is_some() {
                    place.fall_back();
                }
            }
        }
        self.halt(&halted);
        Ok(())
    }

    /// The new launch of one instance of these failed for good: the others stay as they are.
    fn halt(&mut self, names: &[Box<str>]) {
        for place in self.model.places.iter_mut().filter(|place| names.contains(&place.spec.name)) {
            place.mark.take_if(|mark| matches!(mark.why, Why::Changed | Why::Watched | Why::Operator));
        }
    }

    /// Whose new run beside the old one has just failed holds back the others of its app, and nobody else.
    pub(crate) fn let_reloads_fail(&mut self) {
        let failed = self.model.places.iter().filter(|place| place.failed);
        let failed: Vec<Box<str>> = failed.map(|place| place.spec.name.clone()).collect();
        self.halt(&failed);
    }

    fn statuses(&self) -> Vec<(InstanceId, Status)> {
        self.model.places.iter().map(|place| (place.id, self.model.status(place))).collect()
    }

    /// Whoever reads the log learns what came up, failed or finished, once each.
    fn hear_told(&self, before: &[(InstanceId, Status)], event: &Event, effects: &[Effect]) -> Verdict {
        // New entries and numbers may change names; and at the end several things become of one instance in one step.
        let renames = match event {
            Event::Planned { .. } => true,
            Event::Request { wish: Wish::Operate { verb, .. }, .. } => *verb == Verb::Delete,
            Event::Request { wish, .. } => matches!(wish, Wish::Apply { .. } | Wish::Scale { .. }),
            _ => false,
        };
        if renames || self.model.ending.is_some() {
            return Ok(());
        }
        for place in &self.model.places {
            let status = self.model.status(place);
            let is_told = |what: &What| match status {
                Status::Online => matches!(what, What::Online { .. }),
                Status::Errored => matches!(what, What::Errored { .. }),
                Status::Finished => matches!(what, What::Finished { .. }),
                _ => false,
            };
            let matters = matches!(status, Status::Online | Status::Errored | Status::Finished);
            if matters && !before.contains(&(place.id, status)) {
                let notes =
                    effects.iter().filter_map(|one| if let Effect::Note(note) = one { Some(note) } else { None });
                let told = notes.filter(|note| *note.who == place.who() && is_told(&note.what)).count();
                // Its schedule has started it at once, and it was held.
                let is_scheduled =
                    |one: &Effect| matches!(one, Effect::Schedule { app, .. } if *app == place.spec.name);
                let again = status == Status::Errored && place.held.is_some() && effects.iter().any(is_scheduled);
                ensure!(
                    told == 1 || told == 2 && again,
                    "{} is {status:?}, and that is told {told} times",
                    place.who()
                );
            }
        }
        Ok(())
    }

    fn agree(&self, pm3: &Supervisor) -> Verdict {
        if self.exited {
            return Ok(());
        }
        ensure!(
            pm3.is_ending() == self.model.ending.is_some(),
            "it is {} that pm3 ends, the model says otherwise",
            pm3.is_ending()
        );
        ensure!(pm3.instances().count() == self.model.places.len(), "not the same number of instances");
        for (_, one) in pm3.instances() {
            let Some(place) = self.model.place(one.id) else { return Err(format!("{} should be gone", one.id)) };
            let status = self.model.status(place);
            let seen = match one.state {
                State::Waiting { .. } => Status::Waiting,
                State::Alive(life) => match life.phase {
                    Phase::Launching | Phase::Preparing { .. } => Status::Launching,
                    Phase::Standby { .. } => return Err(format!("{} stands by", place.who())),
                    Phase::Online => Status::Online,
                    Phase::Draining { .. } | Phase::Stopping { .. } => Status::Stopping,
                    Phase::Clearing { .. } => Status::Clearing,
                },
                State::Settling { .. } => Status::Settling,
                State::Backoff { .. } => Status::Backoff,
                State::Stopped => Status::Stopped,
                State::Errored { .. } => Status::Errored,
                State::Finished { .. } => Status::Finished,
            };
            // What happens first in the step that begins the end is not told from what happens last.
            let over = |status| matches!(status, Status::Stopped | Status::Errored | Status::Finished);
            ensure!(
                seen == status || self.model.ending.is_some() && over(seen) && over(status),
                "{} is {:?}, the model says {status:?}",
                place.who(),
                one.state
            );
            let run = place.run.as_ref().map(|run| run.id);
            ensure!(one.run() == run, "{}: has run {:?}, the model says {run:?}", place.who(), one.run());
            let pid = place.run.as_ref().filter(|run| run.leftovers.is_none()).map_or(0, |run| run.pid);
            let second =
                one.second.as_ref().map(|second| (second.life.run, second.life.main(), second.life.is_up_or_coming()));
            let expected = place
                .second
                .as_ref()
                .map(|run| (run.id, if run.leftovers.is_some() { 0 } else { run.pid }, run.is_up_or_coming()));
            ensure!(
                second == expected,
                "{}: has as its second run {second:?}, the model says {expected:?}",
                place.who()
            );
            ensure!(one.half == place.half, "{}: is on the other half", place.who());
            self.check_stations(place, one)?;
            self.check_health(place, one, pm3)?;
            ensure!(one.pid() == pid, "{}: has pid {}, the model says {pid}", place.who(), one.pid());
            // At the end nobody follows anybody, whatever the goal was.
            let ends = self.model.ending.is_some();
            ensure!(
                ends || one.restarts == place.restarts,
                "{}: restarted {} times, the model says {}",
                place.who(),
                one.restarts,
                place.restarts
            );
            let waits = self.model.awaited(&place.spec);
            ensure!(status != Status::Waiting || waits.is_some(), "{}: waits for nothing", place.who());
        }
        Ok(())
    }

    fn check_deadline(&self, now: Mono, deadline: Option<Mono>) -> Verdict {
        ensure!(deadline.is_none_or(|at| at > now), "the deadline {deadline:?} is not in the future");
        if self.exited {
            ensure!(deadline.is_none(), "a deadline after Exit");
            return Ok(());
        }
        let wanted = self.model.deadline(false);
        let late = wanted.is_some_and(|wanted| deadline.is_none_or(|at| at > wanted));
        ensure!(!late, "the deadline is {deadline:?}, but {wanted:?} matters");
        let samples = self.samples();
        let proves = |id: &InstanceId| {
            let place = self.model.places.iter().find(|place| place.id == *id)?;
            Some(place.run.as_ref().filter(|run| run.online_since.is_some())?.began?.after(trial(&place.spec)))
        };
        let proof = self.model.asks.values().flat_map(|ask| &ask.more).any(|id| proves(id) == deadline);
        let known = deadline == wanted || deadline == self.model.deadline(true) || proof;
        ensure!(samples || known, "wakes at {deadline:?} without a reason; {wanted:?} would do");
        let sample = self.sample.latest.filter(|_| samples);
        ensure!(sample.is_none_or(|at| deadline.is_some_and(|deadline| deadline <= at)), "forgets to sample");
        Ok(())
    }

    /// Some run with a memory limit is online.
    fn samples(&self) -> bool {
        let sampled = |place: &Place| place.spec.memory_limit.is_some() && self.model.status(place) == Status::Online;
        self.model.ending.is_none() && self.model.places.iter().any(sampled)
    }

    /// What keeps the goal from being reached, now that nothing goes wrong any more.
    pub(crate) fn unreached(&self) -> Verdict {
        // A one-shot that began as a service does not end here, as one would; who waits for it waits on.
        let endless = |wait: &Wait| self.model.place(wait.id).is_some_and(|place| self.model.waits_for_endless(place));
        let waiting: Vec<&ClientId> = self
            .model
            .asks
            .iter()
            .filter(|(_, ask)| !ask.waits.iter().any(endless))
            .map(|(client, _)| client)
            .collect();
        ensure!(waiting.is_empty(), "no answer to {waiting:?}");
        for place in self.model.places.iter() {
            let status = self.model.status(place);
            let arrived = matches!(
                status,
                Status::Online | Status::Stopped | Status::Errored | Status::Finished | Status::Waiting
            );
            ensure!(arrived, "{} is still {status:?}", place.who());
            ensure!(place.second.is_none(), "{} has still two runs", place.who());
            let ready = self.model.awaited(&place.spec).is_none();
            // A cron comes again and again; what became of an operator's wish stands in the reply.
            let overdue = place.mark.filter(|mark| ready && !matches!(mark.why, Why::Cron | Why::Operator));
            ensure!(
                overdue.is_none() || status != Status::Online,
                "{} was never restarted for {overdue:?}",
                place.who()
            );
            let fits = place.spec.memory_limit.is_none_or(|limit| place.usage <= limit);
            let retries = place.retry_at > self.sample.last;
            ensure!(!ready || retries || fits || status != Status::Online, "{} is over its memory limit", place.who());
        }
        Ok(())
    }
}
