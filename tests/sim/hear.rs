//! What the events mean: the half of the oracle that changes the model when something happens, or time passes.

use std::rc::Rc;

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{End, Event, InstanceId, Mono, RunId, Sig};
use pm3::supervisor::spec::{AppSpec, Spec};

use crate::entries::Known;
use crate::model::{Ending, Gate, Goal, Model, Place, Status, Why, is_final, trial};
use crate::oracle::{Oracle, Verdict, ensure};
use crate::run::{Run, Unjudged};

impl Oracle {
    pub(crate) fn hear(&mut self, now: Mono, event: &Event) {
        let ends = self.model.ending.is_some();
        match event {
            Event::Boot | Event::Tick => {}
            Event::Listening { run } => self.hear_listening(now, *run),
            Event::Drained { run } => self.hear_drained(*run),
            // No app has spares.
            Event::StandsBy { .. } | Event::Unfit { .. } => {}
            Event::Probed { run, finding } => self.hear_probed(now, *run, finding),
            Event::Heartbeat { run, well } => self.hear_heartbeat(now, *run, *well),
            Event::Spawned { run, pid } | Event::Moved { run, pid } => {
                if let Some(known) = self.model.find(*run).and_then(|place| place.run_mut(*run)) {
                    known.pid = *pid;
                }
            }
            Event::Executed { run } => {
                let Some(place) = self.model.find(*run) else { return };
                let until = now.after(trial(&place.spec));
                let is_second = place.second.as_ref().is_some_and(|second| second.id == *run);
                let within = place.ready_within(is_second);
                // Who connects to a socket that it was handed is heard.
                let hands_sockets = !place.spec.listen().is_empty();
                let Some(known) = place.run_mut(*run).filter(|known| !known.asked) else { return };
                known.began = Some(now);
                known.listens = hands_sockets;
                if let Some(within) = within {
                    known.ready_due = Some(now.after(within.span()));
                    return;
                }
                known.online_since = Some(now);
                if is_second {
                    known.trial_until = Some(until);
                } else {
                    is_online(place, *run, now);
                }
            }
            Event::Ready { run } => {
                let Some(place) = self.model.find(*run) else { return };
                if place.run_mut(*run).is_some_and(|known| known.is_preparing()) {
                    is_online(place, *run, now);
                }
            }
            Event::SpawnFailed { run, failure } => {
                let Some(place) = self.model.find(*run) else { return };
                if let Some(second) = place.second.take_if(|second| second.id == *run) {
                    if !second.asked {
                        place.reload_failed(now);
                    }
                    return;
                }
                let run = place.run.take();
                place.last_code = Some(failure.exit_code());
                if run.as_ref().is_some_and(|run| run.asked) {
                    place.make_way(run, ends);
                } else if failure.passing {
                    place.refused();
                } else {
                    place.gate = Gate::Errored { code: failure.exit_code(), at: now };
                }
            }
            Event::Exited { run, end, leftovers, .. } => self.hear_exit(now, *run, *end, *leftovers),
            Event::Cleared { run } => {
                let Some(place) = self.model.find(*run) else { return };
                if place.second.take_if(|second| second.id == *run).is_some() {
                    return;
                }
                let run = place.run.take();
                match run.as_ref().and_then(|run| run.leftovers.as_ref()?.unjudged) {
                    Some(unjudged) => place.gate = Gate::Settling(unjudged),
                    None => place.make_way(run, ends),
                }
            }
            Event::Usage { run, bytes } => {
                let Some(place) = self.model.find(*run) else { return };
                // That of a run which has been replaced meanwhile says nothing about the one in its place.
                if place.run.as_ref().is_some_and(|known| known.id == *run) {
                    place.usage = *bytes;
                    let is_over = place.spec.memory_limit.is_some_and(|limit| *bytes > limit);
                    if is_over {
                        place.renew_for(*run, Why::Memory, now);
                    }
                }
            }
            Event::Surveyed { run, obstacle } => {
                let Some(place) = self.model.find(*run) else { return };
                if let Some(mark) = place.mark.as_mut().filter(|mark| mark.asked) {
                    mark.answer = mark.answer.or(Some(obstacle.is_some()));
                }
            }
            Event::Request { client, wish, .. } => self.hear_request(now, *client, wish),
            Event::ClientGone { client } => {
                self.model.asks.remove(client);
                self.gone.push(*client);
            }
            Event::Signal { sig, by_kernel } => {
                let stops = matches!(*sig, Sig::TERM | Sig::INT | Sig::QUIT | Sig::PWR);
                if stops || *sig == Sig::HUP && *by_kernel {
                    self.hear_stop(now, *sig);
                }
            }
            Event::Planned { spec } => self.hear_plan(now, spec),
            Event::Scheduled { app, at } => {
                let known = self.model.app(app).is_some_and(|app| app.cron.is_some());
                self.model.cron_at.remove(app);
                if let Some(at) = at.filter(|_| known) {
                    self.model.cron_at.insert(app.clone(), at);
                }
            }
            Event::FilesChanged { app, at, .. } => self.hear_change(now, app, *at),
            Event::ClockChanged => self.model.cron_at.clear(),
            Event::Childless => self.childless = true,
        }
    }

    fn hear_exit(&mut self, now: Mono, run: RunId, end: End, leftovers: bool) {
        let (settle, ends) = (self.model.spec.settings.settle.span(), self.model.ending.is_some());
        let Some(place) = self.model.find(run) else { return };
        let lingers = leftovers && place.spec.stop.tree;
        let grace_end = now.after(place.spec.stop.timeout.span());
        let linger = |run: Run| run.leave(None, grace_end);
        if let Some(second) = place.second.take_if(|second| second.id == run) {
            if !second.asked {
                place.second_ended(end, now);
            }
            place.second = lingers.then(|| linger(second));
            return;
        }
        if place.successor().is_some() {
            place.last_code = Some(end.exit_code());
            let old = place.replace(now);
            place.second = old.filter(|_| lingers).map(linger);
            if let Some(run) = &mut place.run {
                run.trial_until = None;
            }
            return;
        }
        let Some(run) = place.run.take() else { return };
        place.last_code = Some(end.exit_code());
        place.usage = 0;
        let ran = now.since(run.began.unwrap_or(run.spawned_at));
        let until = if settles(&place.spec, end) { now.after(settle) } else { now };
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        let unjudged = (!run.asked).then_some(Unjudged { end, ran_ms, until });
        if lingers {
            place.run = Some(run.leave(unjudged, grace_end));
        } else if let Some(unjudged) = unjudged {
            place.gate = Gate::Settling(unjudged);
        } else {
            place.make_way(Some(run), ends);
        }
    }

    fn hear_stop(&mut self, now: Mono, sig: Sig) {
        let Some(ending) = &mut self.model.ending else { return self.begin_ending(now, None) };
        ending.signals += 1;
        if ending.signals >= 3 && matches!(sig, Sig::INT | Sig::QUIT) {
            ending.budget_end = ending.budget_end.min(now);
        }
    }

    pub(crate) fn begin_ending(&mut self, now: Mono, codes: Option<Vec<u8>>) {
        let errored: Vec<Option<u8>> = self.each(|model, place| model.errored_codes(place).first().copied());
        for (place, code) in self.model.places.iter_mut().zip(errored) {
            place.gate = code.map_or(place.gate, |code| Gate::Errored { code, at: now });
        }
        // What was due before the end came has been judged; the rest is not any more.
        self.judge_due(now);
        self.model.places.iter_mut().for_each(|place| (place.mark, place.turn) = (None, false));
        for leftovers in self.model.places.iter_mut().filter_map(|place| place.run.as_mut()?.leftovers.as_mut()) {
            leftovers.unjudged = None;
        }
        let budget_end = now.after(self.model.spec.settings.stop_budget.span());
        self.model.ending = Some(Ending {
            codes,
            begun: now,
            budget_end,
            signals: 1,
            asked_all: None,
            killed_all: None,
            over_budget: false,
        });
    }

    fn hear_plan(&mut self, now: Mono, spec: &Spec) {
        if self.model.ending.is_some() {
            return;
        }
        let errored = self.errored();
        // Samples already ordered come by the old interval, later ones by the new.
        let interval = spec.settings.sample_interval.span();
        self.sample.earliest = self.sample.earliest.min(self.sample.last.after(interval));
        self.sample.latest = self.sample.latest.map(|at| at.max(now.after(interval)));
        self.model.spec.settings = spec.settings.clone();
        self.model.cron_at.clear();
        let in_file = |name: &str| spec.apps.iter().any(|app| *app.name == *name);
        let known = &self.model.known;
        let dropped = |name: &str| !in_file(name) && known.get(name).is_some_and(|known| known.of_file);
        let dropped: Vec<Box<str>> =
            self.model.spec.apps.iter().map(|app| app.name.clone()).filter(|name| dropped(name)).collect();
        for name in &dropped {
            self.model
                .places
                .iter_mut()
                .filter(|place| place.spec.name == *name)
                .for_each(|place| place.stop(Goal::Remove, false));
            self.forget(name);
        }
        for entry in &spec.apps {
            let entry = self.model.adapt(entry.clone());
            self.take_over(now, entry, true, &errored);
        }
    }

    /// Files of an app have changed. What an operator stopped is not looked at.
    fn hear_change(&mut self, now: Mono, app: &str, at: Mono) {
        let is_watched = |app: &AppSpec| app.watch.as_ref().is_some_and(|watch| !watch.off);
        if self.model.ending.is_some() || !self.model.app(app).is_some_and(is_watched) {
            return;
        }
        let to_run = self.model.places.iter_mut().filter(|place| *place.spec.name == *app && place.goal == Goal::Run);
        self.revived = to_run.filter_map(|place| place.see_change(at, now).then(|| place.who())).collect();
    }

    /// Who is errored now, be it for want of another.
    pub(crate) fn errored(&self) -> Vec<InstanceId> {
        let errored = self.model.places.iter().filter(|place| self.model.status(place) == Status::Errored);
        errored.map(|place| place.id).collect()
    }

    /// An app is there no more; its instances are on their way out.
    pub(crate) fn forget(&mut self, name: &str) {
        self.model.spec.apps.retain(|app| *app.name != *name);
        self.model.known.remove(name);
        self.model.cron_at.remove(name);
    }

    /// The entry of an app that is new, or changed, or neither. `errored`: who was before any entry was taken in.
    pub(crate) fn take_over(&mut self, now: Mono, new: AppSpec, of_file: bool, errored: &[InstanceId]) {
        let known = self.model.known.entry(new.name.clone()).or_insert(Known { of_file, asked: None });
        known.of_file |= of_file;
        let at = self.model.spec.apps.iter().position(|app| app.name == new.name);
        let Some(at) = at else {
            self.model.spec.apps.push(new.clone());
            // The old instances of an app that was there before are on their way out by the new rules.
            return self.model.each_of(&new);
        };
        let old = std::mem::replace(&mut self.model.spec.apps[at], new.clone());
        if old.cron != new.cron {
            self.model.cron_at.remove(&new.name);
        }
        let revived = old.instances == 0 && new.instances > 0;
        let relaunch = new.launch != old.launch || new.kind != old.kind;
        let kept = self.model.places.iter_mut().filter(|place| place.goal != Goal::Remove);
        for place in kept.filter(|place| place.spec.name == new.name) {
            place.spec = Rc::new(new.clone());
            if new.health.is_none() {
                place.mark.take_if(|mark| mark.why == Why::Unhealthy);
            }
            match place.gate {
                _ if new == old => {}
                _ if place.goal == Goal::Idle && new.autostart && !old.autostart => place.start(),
                _ if place.goal == Goal::Stop && revived => place.start(),
                _ if place.goal != Goal::Run => {}
                _ if place.is_up_or_coming() && relaunch => place.want(Why::Changed, None, now),
                _ if place.run.is_some() => {}
                _ if errored.contains(&place.id) => place.start(),
                Gate::Finished(_) if relaunch => place.start(),
                _ => {}
            }
        }
        self.model.each_of(&new);
        self.fit(&new);
    }

    /// Gives up the newest instances that are too many.
    pub(crate) fn fit(&mut self, app: &AppSpec) {
        let mut kept: Vec<&mut Place> =
            self.model.places.iter_mut().filter(|one| one.spec.name == app.name && one.goal != Goal::Remove).collect();
        kept.sort_by_key(|place| place.id);
        let gently = app.instances > 0;
        kept.into_iter().skip(Model::wanted(app)).for_each(|place| place.stop(Goal::Remove, gently));
    }

    /// Takes in the instances that are new: the next ids, and the lowest numbers that were free.
    pub(crate) fn meet(&mut self, pm3: &Supervisor, scaled: bool) -> Verdict {
        let mut news: Vec<_> = pm3.instances().filter(|(_, one)| self.model.place(one.id).is_none()).collect();
        news.sort_by_key(|(_, one)| one.id);
        for (app, one) in news {
            let next = self.model.next_id;
            ensure!(one.id.0 == next, "instance {} comes, where {next} would be next", one.id);
            self.model.next_id += 1;
            let Some(wanted) = self.model.app(&app.name) else {
                return Err(format!("instance {} belongs to no app that is there", one.id));
            };
            let taken = |index: u32| self.model.of(&app.name).any(|other| other.index == index);
            ensure!(!taken(one.index), "two instances of {} have number {}", app.name, one.index);
            ensure!((0..one.index).all(taken), "{} has a lower number than {} free", app.name, one.index);
            let mut place = Place::new(one.id, wanted, one.index);
            // As the others of its app listen, so will it.
            place.expected = self.model.of(&app.name).any(|other| other.run.as_ref().is_some_and(|run| run.listens));
            if scaled {
                place.goal = Goal::Run;
            }
            self.model.places.push(place);
        }
        for (app, one) in pm3.instances() {
            let known = self.model.place(one.id).is_some_and(|place| place.spec.name == app.name);
            ensure!(known, "instance {} changes hands", one.id);
        }
        for app in &self.model.spec.apps {
            let kept = self.model.of(&app.name).filter(|place| place.goal != Goal::Remove).count();
            ensure!(kept == Model::wanted(app), "{} has {kept} instances instead of {}", app.name, app.instances);
        }
        Ok(())
    }

    /// What happens by time alone, or because of what else happened in this step.
    pub(crate) fn let_time_pass(&mut self, now: Mono) {
        self.promote(now);
        for place in self.model.places.iter_mut().filter(|place| place.proven_at().is_some_and(|at| at <= now)) {
            place.shorts = 0;
        }
        self.judge_due(now);
        if self.model.ending.is_some() {
            return;
        }
        self.model.places.retain(|place| place.goal != Goal::Remove || place.has_processes());
        if self.model.places.is_empty() {
            self.model.next_id = 0;
        }
        // Whoever is pulled in may be started in the very step in which somebody else decides that pm3 ends.
        self.pull_in();
        self.model.release();
        if let Some(codes) = self.model.decided() {
            return self.begin_ending(now, Some(codes));
        }
        // One that its schedule starts at the very moment at which it ends for good has failed nobody.
        self.let_crons_come(now);
        self.let_health_come(now);
        self.let_reloads_fail();
        self.pull_in();
        self.model.release();
        self.model.hold();
        if let Some(codes) = self.model.decided().or_else(|| self.model.done()) {
            self.begin_ending(now, Some(codes));
        }
    }

    /// A second run that has proven itself takes over; nothing takes over any more once pm3 ends. One that is not ready in
    /// time does not, while a first one counts as ready then.
    fn promote(&mut self, now: Mono) {
        let is_due = |run: &&mut Run| run.is_preparing() && run.ready_due.is_some_and(|due| due <= now);
        for place in &mut self.model.places {
            // Who was asked to stop in this step had not been ready before.
            let stays = !matches!(place.goal, Goal::Stop | Goal::Remove);
            if let Some(run) = place.run.as_mut().filter(|run| stays && is_due(run)).map(|run| run.id) {
                is_online(place, run, now);
            }
            let wanted = self.model.ending.is_none() && place.goal == Goal::Run;
            if let Some(second) = place.second.as_mut().filter(|run| wanted && is_due(run)) {
                second.late = true;
                place.reload_failed(now);
            }
        }
        for place in self.model.places.iter_mut().filter(|_| self.model.ending.is_none()) {
            let is_proven = place.successor().and_then(|run| run.trial_until).is_some_and(|until| until <= now);
            if is_proven && place.goal == Goal::Run {
                place.second = place.replace(now);
            }
        }
    }

    fn judge_due(&mut self, now: Mono) {
        for mark in self.model.places.iter_mut().filter_map(|place| place.mark.as_mut()) {
            mark.from = mark.from.filter(|from| *from > now);
        }
        for place in self.model.places.iter_mut().filter(|place| place.run.is_none()) {
            match place.gate {
                Gate::Settling(unjudged) if unjudged.until <= now => place.judge(unjudged, now),
                Gate::From(at) if at <= now => place.gate = Gate::Open,
                _ => {}
            }
        }
    }

    fn let_crons_come(&mut self, now: Mono) {
        let due: Vec<Box<str>> =
            self.model.cron_at.iter().filter(|(_, at)| **at <= now).map(|(app, _)| app.clone()).collect();
        // All at the same moment: who waits for another that comes too was over until now.
        // So is one whose old run has still to go after a reload.
        let ended = |status| matches!(status, Status::Stopped | Status::Errored | Status::Finished);
        let over: Vec<bool> = self.each(|model, place| ended(model.status(place)));
        for app in due {
            self.model.cron_at.remove(&app);
            let of_app = self.model.places.iter_mut().zip(&over).filter(|(place, _)| place.spec.name == app);
            for (place, over) in of_app {
                match place.goal {
                    Goal::Stop | Goal::Remove => {}
                    Goal::Run | Goal::Idle if *over => place.start(),
                    Goal::Run | Goal::Idle
                        if place.is_up_or_coming() && place.second.is_none() && place.mark.is_none() =>
                    {
                        place.want(Why::Cron, None, now);
                    }
                    // If the mark has been called off, this is a new one, and nobody calls that off.
                    Goal::Run | Goal::Idle if place.mark.is_some_and(|mark| mark.doubtful) => {
                        place.mark.iter_mut().for_each(|mark| mark.why = Why::Cron);
                    }
                    Goal::Run | Goal::Idle => place.insist(Why::Cron),
                }
            }
        }
    }

    /// Whoever runs pulls in what it requires.
    fn pull_in(&mut self) {
        loop {
            let running = self.model.places.iter().filter(|place| place.goal == Goal::Run);
            let wanted: Vec<Box<str>> = running.flat_map(|place| place.spec.requires.iter().cloned()).collect();
            let idle = |place: &&mut Place| place.goal == Goal::Idle && wanted.contains(&place.spec.name);
            let mut pulled = self.model.places.iter_mut().filter(idle).peekable();
            if pulled.peek().is_none() {
                return;
            }
            pulled.for_each(Place::start);
        }
    }

    /// A fact about every place, in their order.
    fn each<T>(&self, fact: impl Fn(&Model, &Place) -> T) -> Vec<T> {
        self.model.places.iter().map(|place| fact(&self.model, place)).collect()
    }
}

/// A run is ready, or taken for it: that is enough to follow another.
pub(crate) fn is_online(place: &mut Place, run: RunId, now: Mono) {
    let is_second = place.second.as_ref().is_some_and(|second| second.id == run);
    if let Some(known) = place.run_mut(run) {
        (known.ready_due, known.online_since) = (None, Some(now));
    }
    if is_second {
        place.second = place.replace(now);
    } else {
        place.turn &= place.second.is_some();
        place.expected = false;
        place.wait_for_age(now);
    }
}

/// An end that may be the first sign of pm3's own: by a stop signal that everybody got, or as programs leave that
/// handle one. An end that is final need not wait.
fn settles(app: &AppSpec, end: End) -> bool {
    let signals = [Sig::TERM, Sig::INT, Sig::HUP];
    match end {
        End::Signal(sig) => signals.contains(&sig),
        End::Unseen => true,
        End::Code(code) => !is_final(app, end) && (code == 0 || signals.iter().any(|sig| code == 128 + sig.0)),
    }
}
