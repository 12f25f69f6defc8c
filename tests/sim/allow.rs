//! What the effects may be: the half of the oracle that says whether the supervisor may do this now, and notes that it
//! was done.

use crate::kernel::{OVERSLEPT_MS, millis};
use pm3::supervisor::event::{
    ClientId, Effect, Event, Half, InstanceId, Millis, Mono, Reason, RunId, Scope, Sig, What,
};
use pm3::supervisor::spec::Amount;

use crate::model::{Ending, First, Gate, Goal, Mark, Place, Status};
use crate::oracle::{Oracle, Sample, Verdict, ensure};
use crate::run::Run;

impl Oracle {
    pub(crate) fn allow(&mut self, now: Mono, event: &Event, effect: &Effect) -> Verdict {
        match effect {
            Effect::Spawn { run, instance, half } => self.allow_spawn(now, *run, *instance, *half),
            Effect::Survey { run } => self.allow_survey(now, *run),
            Effect::Drain { run } => self.allow_drain(now, *run),
            Effect::TakeOver { run, .. } | Effect::Dismiss { run } => Err(format!("{run:?} is no spare's")),
            Effect::Probe { run } => self.allow_probe(now, *run),
            Effect::Signal { run, sig, scope } => self.allow_signal(now, *run, *sig, *scope),
            Effect::Sweep { sig } => self.allow_sweep(now, *sig),
            Effect::Sample { runs } => {
                ensure!(now >= self.sample.earliest, "samples come faster than the interval");
                let next = now.after(self.model.spec.settings.sample_interval.span());
                self.sample = Sample { last: now, earliest: next, latest: Some(next) };
                ensure!(self.model.ending.is_none(), "samples while pm3 ends");
                for run in runs {
                    let fits = self.model.find(*run).is_some_and(|place| {
                        place.run.as_ref().is_some_and(|run| run.online_since.is_some())
                            && place.spec.memory_limit.is_some()
                    });
                    ensure!(fits, "a sample of {run:?}, which is not online or has no limit");
                }
                Ok(())
            }
            Effect::Schedule { app, cron } => {
                let known = self.model.app(app).is_some_and(|known| known.cron.as_ref() == Some(cron));
                ensure!(known, "asks for the schedule of {app}, which has none");
                self.model.cron_at.remove(app);
                Ok(())
            }
            Effect::Progress { client, news } => self.allow_progress(*client, news),
            Effect::Reply { client, outcome } => self.allow_reply(now, event, *client, outcome),
            Effect::Note(note) => match &note.what {
                What::Fault(why) => Err(format!("a broken invariant: {why}")),
                What::Restarting { reason: Reason::Watched(_), after } => {
                    let at = self.revived.iter().position(|who| **who == *note.who);
                    ensure!(at.is_some() && *after == Millis::ZERO, "{} is not started for changed files", note.who);
                    self.revived.swap_remove(at.unwrap_or_default());
                    Ok(())
                }
                What::Restarting { after, .. } => self.allow_wait(now, &note.who, *after),
                What::Quarantined { span, .. } => self.allow_quarantine(now, &note.who, *span),
                What::Pm3(text) if text.ends_with("more keep running as they are") => self.allow_halt(&note.who),
                what => self.allow_condition(&note.who, what),
            },
            Effect::ReadPlan => {
                let asked = matches!(event, Event::Signal { sig: Sig::HUP, by_kernel: false });
                let ends = self.model.ending.as_ref().is_some_and(|ending| ending.begun < now);
                ensure!(asked && !ends, "reads the file unasked");
                Ok(())
            }
            Effect::Report => {
                ensure!(matches!(event, Event::Signal { sig: Sig::USR1, .. }), "reports unasked");
                Ok(())
            }
            Effect::Exit { code, reason } => self.allow_exit(now, *code, reason),
        }
    }

    /// The wait before a restart, as it was told: the back-off says how long, and jitter how much longer.
    fn allow_wait(&mut self, now: Mono, who: &str, after: Millis) -> Verdict {
        let mut told = self.model.places.iter_mut().filter(|place| place.who() == *who);
        let place = told.find_map(|place| match place.gate {
            Gate::Told { least, most } => Some((place, least, most)),
            _ => None,
        });
        let Some((place, least, most)) = place else {
            return Err(format!("{who} is said to restart, and was not judged so"));
        };
        let fits = (least..=most).contains(&u64::from(after.0));
        ensure!(fits, "{who} waits {} ms to restart instead of {least} to {most}", after.0);
        place.gate = Gate::From(now.after(after.span()));
        self.let_time_pass(now);
        Ok(())
    }

    /// Asked once a turn, about a run that has had the time to bind what it listens on.
    fn allow_survey(&mut self, now: Mono, run: RunId) -> Verdict {
        ensure!(self.model.ending.is_none(), "a survey while pm3 ends");
        let Some(place) = self.model.find(run).cloned() else { return Err(format!("a survey of {run:?}")) };
        let who = place.who();
        // What one has for itself may be in the way of more of them, and is asked first.
        let online = place.run.as_ref().filter(|known| known.id == run && known.online_since.is_some());
        if let Some(at) = self.grown.iter().position(|name| *name == place.spec.name)
            && online.is_some_and(|known| !known.listens && !known.asked)
        {
            self.grown.swap_remove(at);
            return Ok(());
        }
        let mark = place.mark.filter(|mark| mark.first == First::New && !mark.asked && mark.from.is_none());
        ensure!(mark.is_some(), "{who}: a survey without a reason: {:?}", place.mark);
        ensure!(place.spec.overlap != Some(true), "{who}: a survey, although it may overlap whatever it listens on");
        self.begin_turn(&place)?;
        if let Some(place) = self.model.find(run) {
            place.turn = true;
            place.mark.iter_mut().for_each(|mark| mark.asked = true);
        }
        let fits = place.run.as_ref().is_some_and(|known| known.id == run && known.online_since.is_some());
        ensure!(fits && place.second.is_none(), "{who}: a survey of {run:?}");
        ensure!(
            self.model
                .find(run)
                .is_some_and(|place| place.mark.is_some_and(|mark| mark.from.is_none_or(|at| at <= now))),
            "too early"
        );
        Ok(())
    }

    /// Whether a new run may be brought about in this place now, old or new first: it is wanted, one at a time, and
    /// nobody is away or about to be whom it waits for.
    pub(crate) fn begin_turn(&self, place: &Place) -> Verdict {
        let who = place.who();
        ensure!(place.goal == Goal::Run, "{who}: its goal is {:?}", place.goal);
        ensure!(place.mark.is_some(), "{who}: a new run without a reason");
        self.has_room(place)?;
        let awaited = self.model.awaited(&place.spec);
        ensure!(awaited.is_none(), "{who}: a new run without {}, which it waits for", awaited.unwrap_or_default());
        // One whose own turn cannot go on is not waited for.
        let names = place.spec.after.iter().chain(&place.spec.requires);
        let apps = names.filter_map(|name| self.model.app(name));
        let moving = apps.filter(|app| self.model.awaited(app).is_none());
        let mut earlier = moving.flat_map(|app| self.model.of(&app.name));
        let busy = earlier.find(|earlier| self.model.has_turn(earlier)).map(Place::who);
        ensure!(busy.is_none(), "{who}: a new run while {}, which it waits for, gets one", busy.unwrap_or_default());
        Ok(())
    }

    /// No more instances of an app are on their way at once than may be: beside their old runs, or away.
    fn has_room(&self, place: &Place) -> Verdict {
        let Some(mark) = place.mark else { return Ok(()) };
        let (policy, all) = (&place.spec.roll, u64::from(place.spec.instances));
        let many = |amount, round: u64| match (mark.parallel, amount) {
            (Some(count), _) | (None, Amount::Count(count)) => u64::from(count).max(1),
            (None, Amount::Percent(percent)) => ((all * u64::from(percent) + round) / 100).max(1),
        };
        let (most_beside, most_away) = (many(policy.max_surge, 99), many(policy.max_unavailable, 0));
        let others = self.model.of(&place.spec.name).filter(|other| other.id != place.id && self.model.has_turn(other));
        let (away, beside): (Vec<&Place>, Vec<&Place>) =
            others.partition(|other| self.model.status(other) != Status::Online);
        let (away, beside) = (away.len() as u64, beside.len() as u64);
        let leaves = mark.first == First::Old || mark.answer == Some(true);
        let fits = if leaves { away < most_away } else { self.model.has_turn(place) || beside < most_beside };
        let all_fit = self.model.has_turn(place) || away + beside < most_beside.max(most_away);
        ensure!(fits && all_fit, "{}: a new run for {mark:?} with {away} away, {beside} beside", place.who());
        Ok(())
    }

    /// After a failure those whose new runs have not been started have no turn any more.
    fn allow_halt(&mut self, app: &str) -> Verdict {
        let has_failed = |place: &Place| place.failed || self.model.status(place) == Status::Errored;
        ensure!(self.model.of(app).any(has_failed), "{app}: a rollout is halted without a failure");
        for place in self.model.places.iter_mut().filter(|place| *place.spec.name == *app) {
            let begun = place.second.is_some() || !place.is_up_or_coming();
            place.turn &= begun;
        }
        Ok(())
    }

    /// The second run of an instance: beside a first one that is well, and where nothing is in the way.
    fn allow_second(&mut self, now: Mono, run: RunId, place: &Place, half: Half) -> Verdict {
        let who = place.who();
        ensure!(place.second.is_none(), "{who}: a third run beside {:?} and {:?}", place.run, place.second);
        let online = place.run.as_ref().is_some_and(|run| run.is_up_or_coming() && run.online_since.is_some());
        ensure!(online, "{who}: a second run beside {:?}", place.run);
        ensure!(half == place.half.other(), "{who}: two runs on one half of its pair");
        self.begin_turn(place)?;
        let is_free = |mark: Mark| mark.first == First::New && mark.answer == Some(false);
        let is_new = |mark: Mark| mark.first == First::New || mark.doubtful;
        let sure = place.spec.overlap == Some(true) && place.mark.is_some_and(is_new);
        ensure!(sure || place.mark.is_some_and(is_free), "{who}: a second run for {:?}", place.mark);
        self.model.last_run = run;
        if let Some(place) = self.model.places.iter_mut().find(|other| other.id == place.id) {
            (place.mark, place.turn, place.was_done) = (None, true, false);
            place.second = Some(Run::new(run, now));
        }
        Ok(())
    }

    fn allow_spawn(&mut self, now: Mono, run: RunId, instance: InstanceId, half: Half) -> Verdict {
        // Who decides is seen after everybody has had his turn.
        let decided_now = |ending: &Ending| ending.codes.is_some() && ending.begun == now;
        ensure!(self.model.ending.as_ref().is_none_or(decided_now), "spawns while pm3 ends");
        ensure!(run > self.model.last_run, "{run:?} was used before");
        let Some(place) = self.model.place(instance) else { return Err(format!("no instance {instance}")) };
        let who = place.who();
        if place.run.is_some() {
            return self.allow_second(now, run, &place.clone(), half);
        }
        ensure!(half == place.half, "{who}: on the wrong half of its pair");
        let waited = place.coming.is_none_or(|coming| coming == half);
        ensure!(waited, "{who}: on another half than clients wait at");
        ensure!(place.goal == Goal::Run, "{who}: spawned although its goal is {:?}", place.goal);
        match place.gate {
            Gate::Open => {}
            Gate::From(at) if at <= now => {}
            gate => return Err(format!("{who}: spawned although {gate:?}")),
        }
        if let Some(other) = self.model.awaited(&place.spec) {
            return Err(format!("{who}: spawned before {other}, which it waits for"));
        }
        self.model.last_run = run;
        if let Some(place) = self.model.places.iter_mut().find(|place| place.id == instance) {
            (place.gate, place.mark, place.usage) = (Gate::Open, None, 0);
            place.run = Some(Run::new(run, now));
        }
        Ok(())
    }

    fn allow_signal(&mut self, now: Mono, run: RunId, sig: Sig, scope: Scope) -> Verdict {
        // A client's signal changes nothing by itself.
        if let Some(at) = self.to_signal.iter().position(|wanted| *wanted == (run, sig) && scope == Scope::Process) {
            self.to_signal.swap_remove(at);
            return Ok(());
        }
        let ending = self.model.ending.clone();
        let is_over_budget = ending.as_ref().is_some_and(|ending| ending.budget_end <= now);
        let Some(place) = self.model.find(run).cloned() else {
            return Err(format!("{sig} to {run:?}, which has no process"));
        };
        let (who, policy) = (place.who(), &place.spec.stop);
        let is_second = place.second.as_ref().is_some_and(|second| second.id == run);
        let found = place.run.iter().chain(&place.second).find(|known| known.id == run);
        let Some(mut live) = found.cloned() else { return Err("unreachable".into()) };
        if let Some(leftovers) = &mut live.leftovers {
            ensure!(scope == Scope::Tree, "{who}: a signal to a main process that was reaped");
            if leftovers.asked {
                let due = is_over_budget || live.kill_due.is_some_and(|at| at <= now);
                ensure!(sig == Sig::KILL && due, "{who}: {sig} to leftovers within their grace");
                ensure!(!live.killed, "{who}: leftovers are killed twice");
                live.killed = true;
            } else {
                let wanted = if live.killed { Sig::KILL } else { policy.signal };
                ensure!(sig == wanted, "{who}: {sig} to leftovers instead of {wanted}");
                leftovers.asked = true;
            }
        } else if live.drain_until.is_some() && sig == policy.signal && scope == Scope::Process {
            self.end_drain(now, &place, &live)?;
            (live.drain_until, live.kill_due) = (None, Some(now.after(policy.timeout.span())));
        } else if sig == Sig::KILL && (live.asked || is_over_budget) {
            let due = live.kill_due.is_some_and(|at| at <= now);
            ensure!(due || is_over_budget, "{who}: killed within its grace");
            // One whose own stop signal this is may get it as such, and again as the budget is over.
            ensure!(!live.killed || is_over_budget && policy.signal == Sig::KILL, "{who}: killed twice");
            let fits = (scope == Scope::Tree) == policy.tree || is_over_budget && policy.signal == Sig::KILL;
            ensure!(fits, "{who}: killed with scope {scope:?}");
            live.resisted = live.asked && due && policy.signal != Sig::KILL;
            (live.killed, live.asked, live.drain_until) = (true, true, None);
        } else {
            ensure!(sig == policy.signal, "{who}: {sig} instead of {}", policy.signal);
            ensure!(scope == Scope::Process, "{who}: a stop signal to the whole tree");
            ensure!(!live.asked, "{who}: asked to stop twice");
            ensure!(!self.has_to_drain(&place, &live), "{who}: signalled with clients");
            self.may_end(now, &place, is_second, &live)?;
            self.note_asked(run, is_second);
            live.asked = true;
            live.kill_due = Some(now.after(policy.timeout.span()));
        }
        if let Some(known) = self.model.find(run).and_then(|place| place.run_mut(run)) {
            *known = live;
        }
        Ok(())
    }

    /// Whether a run may be asked to end now.
    pub(crate) fn may_end(&self, now: Mono, place: &Place, is_second: bool, live: &Run) -> Verdict {
        let (who, ending) = (place.who(), self.model.ending.as_ref());
        if let Some(ending) = ending.filter(|_| !is_second) {
            // Who is not wanted was stopped before the end came, if in the same step.
            let unwanted = matches!(place.goal, Goal::Stop | Goal::Remove);
            let blocker = self.model.dependant_alive(&place.spec.name).map(Place::who);
            ensure!(
                blocker.is_none() || ending.signals > 1 || ending.budget_end <= now || unwanted,
                "{who}: stopped before {}, which waits for it",
                blocker.unwrap_or_default()
            );
        } else if place.goal == Goal::Run && is_second && ending.is_none() {
            // Its successor has proven itself, or it was not ready in time, or its first run is being restarted.
            let restarts = place.run.as_ref().is_some_and(|first| first.asked);
            ensure!(live.replaced || live.late || restarts, "{who}: the new run is stopped without a reason");
        } else if place.goal == Goal::Run && !is_second {
            self.begin_turn(place)?;
            let (mark, second) = (place.mark, place.second.as_ref());
            let stands = |mark: Mark| mark.first == First::Old || mark.answer == Some(true) || mark.doubtful;
            ensure!(mark.is_some_and(stands), "{who}: the old run is ended first, for {mark:?}");
            let both = live.listens && second.is_some_and(|second| second.asked && second.listens);
            ensure!(!both, "{who}: nobody is left for new clients");
        }
        Ok(())
    }

    /// It has been asked to end.
    pub(crate) fn note_asked(&mut self, run: RunId, is_second: bool) {
        let goes_on = self.model.ending.is_none();
        if let Some(place) = self.model.find(run).filter(|_| !is_second) {
            place.mark = None;
            place.turn |= goes_on && place.goal == Goal::Run;
        }
    }

    fn allow_sweep(&mut self, now: Mono, sig: Sig) -> Verdict {
        let alive = self.model.places.iter().find(|place| place.has_processes()).map(Place::who);
        let Some(ending) = &mut self.model.ending else { return Err("sweeps in the middle of life".into()) };
        let over = ending.budget_end <= now;
        if sig == Sig::KILL {
            let grace_over = ending.asked_all.is_some_and(|at| at.after(millis(2_000)) <= now);
            ensure!(grace_over || over, "sweeps with SIGKILL too early");
            ensure!(ending.killed_all.is_none(), "sweeps with SIGKILL twice");
            ending.killed_all = Some(now);
            ending.over_budget = alive.is_some();
        } else {
            ensure!(sig == Sig::TERM && ending.asked_all.is_none(), "sweeps with {sig}");
            ensure!(alive.is_none(), "sweeps while {} is there", alive.unwrap_or_default());
            ending.asked_all = Some(now);
            self.childless = false;
        }
        Ok(())
    }

    /// DESIGN §6: the code of whoever decided, never a made-up one.
    fn allow_exit(&mut self, now: Mono, code: u8, reason: &str) -> Verdict {
        self.exited = true;
        self.says_goodbye = false;
        let Some(ending) = &self.model.ending else { return Err("exits in the middle of life".into()) };
        let gave_up = ending.killed_all.is_some_and(|at| at.after(millis(500)) <= now);
        ensure!(self.childless || gave_up, "exits before it is childless");
        ensure!(!reason.is_empty(), "exits without a reason");
        // The budget, the last wait for what cannot be killed, and what pm3 may have overslept.
        let latest =
            ending.begun.after(self.model.spec.settings.stop_budget.span()).after(millis(500 + 2 * OVERSLEPT_MS));
        ensure!(now <= latest, "exits long after its budget is over");
        let unanswered: Vec<&ClientId> = self.model.asks.keys().collect();
        ensure!(unanswered.is_empty(), "exits without an answer to {unanswered:?}");
        let codes = match &ending.codes {
            Some(codes) => codes.clone(),
            None => {
                let of = |name: &str| {
                    let kept = self.model.of(name).filter(|place| place.goal != Goal::Remove);
                    let mut codes = kept.filter_map(|place| place.last_code);
                    codes.find(|code| *code != 0).unwrap_or(0)
                };
                let mains: Vec<u8> =
                    self.model.spec.apps.iter().filter(|app| app.main).map(|app| of(&app.name)).collect();
                let plain = if ending.over_budget { 137 } else { 0 };
                if mains.is_empty() { vec![plain] } else { mains }
            }
        };
        ensure!(codes.contains(&code), "exits with {code} instead of {codes:?}");
        Ok(())
    }
}
