//! What clients ask for, and when they have it: the part of the oracle that knows requests.

use std::collections::BTreeSet;

use pm3::supervisor::event::{
    ClientId, Count, Event, InstanceId, Mono, Outcome, Progress, Rollout, RunId, Sig, Verb, Wish,
};
use pm3::supervisor::spec::{AppSpec, Shell, Watch};

use crate::model::{Goal, Place, Status, Why};
use crate::oracle::{Oracle, Verdict, ensure};

/// A request that has not been answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) waits: Vec<Wait>,
    /// Lines of the answer that are about nobody who is waited for, and how many of them are failures.
    pub(crate) lines: usize,
    pub(crate) failures: usize,
    /// It wants pm3 to end.
    pub(crate) quits: bool,
    /// Who has been where the request sent it, by its name then; once is enough.
    pub(crate) arrived: Vec<(InstanceId, String)>,
    /// Those of them that are more than there were: one that was there may have something for itself, and then they have
    /// to live for a while to be where they were sent.
    pub(crate) more: Vec<InstanceId>,
}

/// An instance that a request waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) id: InstanceId,
    /// What it was called when it was asked.
    pub(crate) who: String,
    pub(crate) aim: Aim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Online with a run after this one.
    Up {
        after: RunId,
    },
    Down,
    Gone,
}

impl Oracle {
    pub(crate) fn hear_request(&mut self, now: Mono, client: ClientId, wish: &Wish) {
        let mut ask = Ask::default();
        match wish {
            Wish::Quit => {
                ask.quits = true;
                if self.model.ending.is_none() {
                    self.begin_ending(now, None);
                }
            }
            // Refused with at least a line.
            _ if self.model.ending.is_some() => ask.lines = 1,
            Wish::Operate { verb, targets, shell, how } => {
                let ids = self.resolve_all(targets, &mut ask);
                self.operate(now, *verb, *how, &ids, shell.as_ref(), &mut ask);
            }
            Wish::Apply { verb, apps, renew, how } => match self.model.objection(apps) {
                Some(_) => (ask.lines, ask.failures) = (usize::MAX, 1),
                None => self.apply(now, *verb, *how, apps, *renew, &mut ask),
            },
            Wish::Scale { target, to } => {
                let ids = self.resolve_all(std::slice::from_ref(target), &mut ask);
                self.scale(now, &ids, *to, &mut ask);
            }
            Wish::Signal { sig, targets } => {
                let ids = self.resolve_all(targets, &mut ask);
                self.hear_signal(*sig, &ids, &mut ask);
            }
        }
        self.model.asks.insert(client, ask);
        let marks = self.model.places.iter_mut().filter_map(|place| place.mark.as_mut());
        for mark in marks.filter(|mark| mark.why == Why::Operator && mark.by.is_none()) {
            mark.by = Some(client);
        }
    }

    /// Whom the targets name, each once. A target counts once, however often it is named; `all` of nothing is no failure.
    fn resolve_all(&self, targets: &[Box<str>], ask: &mut Ask) -> Vec<InstanceId> {
        let mut ids = BTreeSet::new();
        for target in targets.iter().collect::<BTreeSet<_>>() {
            let found = self.model.resolve(target);
            ask.failures += usize::from(found.is_empty() && **target != *"all");
            ids.extend(found);
        }
        ask.lines = ask.failures;
        ids.into_iter().collect()
    }

    fn operate(
        &mut self,
        now: Mono,
        verb: Verb,
        how: Rollout,
        ids: &[InstanceId],
        shell: Option<&Shell>,
        ask: &mut Ask,
    ) {
        let last_run = self.model.last_run;
        let mut names: Vec<Box<str>> = Vec::new();
        for place in self.model.places.iter().filter(|place| ids.contains(&place.id)) {
            names.push(place.spec.name.clone());
            let aim = match verb {
                Verb::Start => Aim::Up { after: place.newest_before(last_run) },
                Verb::Restart | Verb::Reload => Aim::Up { after: last_run },
                Verb::Stop => Aim::Down,
                Verb::Delete => Aim::Gone,
                Verb::Reset | Verb::Watch | Verb::Promote | Verb::Abort => {
                    ask.lines += 1;
                    ask.arrived.push((place.id, place.who()));
                    continue;
                }
            };
            ask.waits.push(Wait { id: place.id, who: place.who(), aim });
        }
        names.sort();
        names.dedup();
        for name in &names {
            let Some(app) = self.model.spec.apps.iter_mut().find(|app| app.name == *name) else { continue };
            if let Some(shell) = shell {
                app.launch.shell = shell.clone();
            }
            if verb == Verb::Watch {
                let watch = app.watch.take().map(|watch| Watch { off: !watch.off, ..*watch });
                app.watch = Some(Box::new(watch.unwrap_or_default()));
            }
            let app = app.clone();
            self.model.each_of(&app);
            if matches!(verb, Verb::Start | Verb::Restart | Verb::Reload) && app.instances == 0 {
                self.model.resize(name, 1);
            }
        }
        let serves = |place: &&Place| {
            !ids.contains(&place.id) && place.goal == Goal::Run && self.model.status(place) == Status::Online
        };
        let served: Vec<Box<str>> =
            self.model.places.iter().filter(serves).map(|place| place.spec.name.clone()).collect();
        for place in self.model.places.iter_mut().filter(|place| ids.contains(&place.id)) {
            let others = served.contains(&place.spec.name);
            obey(place, verb, how, others, now);
        }
        for name in names.iter().filter(|_| verb == Verb::Delete) {
            let kept = self.model.of(name).filter(|place| place.goal != Goal::Remove).count();
            match self.model.app(name).map(|app| app.instances as usize) {
                Some(_) if kept == 0 => self.forget(name),
                Some(instances) if kept < instances => self.model.resize(name, kept as u32),
                _ => {}
            }
        }
    }

    fn apply(&mut self, now: Mono, verb: Verb, how: Rollout, entries: &[AppSpec], renew: bool, ask: &mut Ask) {
        let errored = self.errored();
        for entry in entries {
            let known = self.model.app(&entry.name).cloned();
            let mut new = self.model.adapt(entry.clone());
            if renew {
                new.launch.shell = entry.launch.shell.clone();
            }
            let revives = new.instances == 0;
            self.take_over(now, new, false, &errored);
            if known.is_none() {
                continue;
            }
            let app = self.model.app(&entry.name).cloned().unwrap_or_default();
            let kept = |place: &&mut Place| place.spec.name == entry.name && place.goal != Goal::Remove;
            for place in self.model.places.iter_mut().filter(kept) {
                let left = place.goal == Goal::Idle && !app.autostart;
                if !(left || verb == Verb::Start && place.is_up_or_coming()) {
                    obey(place, verb, how, false, now);
                }
            }
            if revives {
                self.model.resize(&entry.name, 1);
            }
        }
        self.applied = entries.iter().map(|entry| entry.name.clone()).collect();
        ask.lines = 0;
    }

    /// Who is waited for after apps were taken in: all of theirs that are to run, new ones too.
    pub(crate) fn wait_for_applied(&mut self, client: ClientId) {
        let names = std::mem::take(&mut self.applied);
        let Some(ask) = self.model.asks.get_mut(&client) else { return };
        for place in self.model.places.iter().filter(|place| names.contains(&place.spec.name)) {
            if place.goal == Goal::Run {
                let last_run = self.model.last_run;
                let waits = place.mark.is_some_and(|mark| !mark.doubtful);
                let after = if waits { last_run } else { place.newest_before(last_run) };
                ask.waits.push(Wait { id: place.id, who: place.who(), aim: Aim::Up { after } });
            }
        }
    }

    fn scale(&mut self, now: Mono, ids: &[InstanceId], to: Count, ask: &mut Ask) {
        let mut names: Vec<Box<str>> = Vec::new();
        for place in self.model.places.iter().filter(|place| ids.contains(&place.id)) {
            names.push(place.spec.name.clone());
        }
        names.sort();
        names.dedup();
        for name in names {
            let Some(before) = self.model.app(&name).map(|app| app.instances) else { continue };
            let count = match to {
                Count::Exactly(count) => Some(count),
                Count::Up(more) => Some(before + more),
                Count::Down(fewer) => before.checked_sub(fewer),
            };
            let Some(count) = count else {
                (ask.lines, ask.failures) = (ask.lines + 1, ask.failures + 1);
                continue;
            };
            if count == before {
                continue;
            }
            let kept: Vec<(InstanceId, String)> = self
                .model
                .of(&name)
                .filter(|place| place.goal != Goal::Remove)
                .map(|place| (place.id, place.who()))
                .collect();
            self.model.resize(&name, count);
            let app = self.model.app(&name).cloned().unwrap_or_default();
            self.fit(&app);
            for (id, who) in kept {
                let Some(place) = self.model.places.iter_mut().find(|place| place.id == id) else { continue };
                let aim = match place.goal {
                    Goal::Remove => Aim::Gone,
                    _ if count == 0 => {
                        obey(place, Verb::Stop, Rollout::default(), false, now);
                        Aim::Down
                    }
                    _ if before == 0 => {
                        obey(place, Verb::Start, Rollout::default(), false, now);
                        Aim::Up { after: self.model.last_run }
                    }
                    _ => continue,
                };
                ask.waits.push(Wait { id, who, aim });
            }
            self.scaled.push(name);
        }
    }

    /// The new instances of what was scaled up are waited for.
    pub(crate) fn wait_for_scaled(&mut self, client: ClientId, before: &[(InstanceId, Status)]) {
        let names = std::mem::take(&mut self.scaled);
        let Some(ask) = self.model.asks.get_mut(&client) else { return };
        let is_new =
            |place: &&Place| names.contains(&place.spec.name) && before.iter().all(|(known, _)| *known != place.id);
        for place in self.model.places.iter().filter(is_new) {
            let aim = Aim::Up { after: self.model.last_run };
            ask.waits.push(Wait { id: place.id, who: place.who(), aim });
            ask.more.push(place.id);
            self.grown.push(place.spec.name.clone());
        }
        self.grown.dedup();
    }

    fn hear_signal(&mut self, sig: Sig, ids: &[InstanceId], ask: &mut Ask) {
        for place in self.model.places.iter().filter(|place| ids.contains(&place.id)) {
            let run = place.run.as_ref().filter(|run| run.pid > 0 && run.leftovers.is_none());
            ask.lines += 1;
            match run {
                Some(run) => {
                    self.to_signal.push((run.id, sig));
                    ask.arrived.push((place.id, place.who()));
                }
                None => ask.failures += 1,
            }
        }
    }

    /// Before its reply, and only to who wants it; about those whom it asked for.
    pub(crate) fn allow_progress(&self, client: ClientId, news: &Progress) -> Verdict {
        ensure!(!self.gone.contains(&client), "tells {client:?}, which is gone");
        let ask = self.model.asks.get(&client).filter(|_| follows(client));
        let Some(ask) = ask else { return Err(format!("tells {client:?} what it has not asked for: {news:?}")) };
        let known = news.id.is_none_or(|id| ask.waits.iter().any(|wait| wait.id == id));
        ensure!(known && news.over <= news.of && news.of > 0, "{news:?} is not about {ask:?}");
        Ok(())
    }

    pub(crate) fn allow_reply(&mut self, now: Mono, event: &Event, client: ClientId, outcome: &Outcome) -> Verdict {
        self.see_arrivals();
        ensure!(!self.gone.contains(&client), "replies to {client:?}, which is gone");
        let Some(ask) = self.model.asks.remove(&client) else {
            return Err(format!("replies to {client:?}, which waits for nothing"));
        };
        let lines = outcome.done.len() + outcome.failed.len();
        if ask.quits {
            ensure!(self.model.ending.is_some() && outcome.done == ["pm3".into()], "no end for {ask:?}: {outcome:?}");
            self.says_goodbye = true;
            return Ok(());
        }
        // A restart that was said to have failed is called off, unless somebody else wants it too.
        let restarts = |wait: &Wait| matches!(wait.aim, Aim::Up { .. });
        let others = |id: InstanceId| {
            let mut others = self.model.asks.values().flat_map(|other| &other.waits);
            others.any(|wait| wait.id == id && restarts(wait))
        };
        let failed = |wait: &&Wait| {
            restarts(wait) && !ask.arrived.iter().any(|(arrived, _)| *arrived == wait.id) && !others(wait.id)
        };
        let called_off: Vec<InstanceId> = ask.waits.iter().filter(failed).map(|wait| wait.id).collect();
        for place in self.model.places.iter_mut().filter(|place| called_off.contains(&place.id)) {
            let Some(mark) = place.mark.as_mut().filter(|mark| mark.why == Why::Operator) else { continue };
            if mark.by > Some(client) {
                // It may have failed before that was asked for, or after.
                mark.doubtful = true;
            } else {
                place.mark = None;
                // That was when it failed, and memory may have been looked at since.
                let over = place.spec.memory_limit.is_some_and(|limit| place.usage > limit);
                if over && place.is_up_or_coming() && place.second.is_none() {
                    place.want(Why::Memory, None, now);
                }
            }
        }
        if self.model.ending.is_some() {
            ensure!(lines > 0 || ask.waits.is_empty() && ask.lines == 0, "an empty answer to {ask:?}");
            return Ok(());
        }
        if ask.lines == usize::MAX {
            ensure!(outcome.done.is_empty() && !outcome.failed.is_empty(), "not refused: {ask:?}: {outcome:?}");
            return Ok(());
        }
        ensure!(lines == ask.waits.len() + ask.lines, "{lines} lines in the answer to {ask:?}");
        ensure!(outcome.failed.len() >= ask.failures, "failures of {ask:?} are not told");
        let asked_now = matches!(event, Event::Request { .. });
        ensure!(ask.failures == 0 || asked_now || !ask.waits.is_empty(), "a late refusal");
        let lied = outcome.done.iter().find(|who| !ask.arrived.iter().any(|(_, arrived)| **arrived == ***who));
        ensure!(lied.is_none(), "{lied:?} is said to have done {ask:?}");
        Ok(())
    }

    /// A restart that cannot begin for want of another app is called off, and who asked for it is told with the rest. So is
    /// one that came while the last new run was on its way, which was done at once.
    pub(crate) fn see_doubts(&mut self) {
        let stuck: Vec<InstanceId> = self
            .model
            .places
            .iter()
            .filter(|place| place.mark.is_some_and(|mark| mark.why == Why::Operator))
            .filter(|place| place.was_done || self.model.awaited(&place.spec).is_some())
            .map(|place| place.id)
            .collect();
        for place in self.model.places.iter_mut().filter(|place| stuck.contains(&place.id)) {
            place.mark.iter_mut().for_each(|mark| mark.doubtful = true);
        }
    }

    /// Notes who is where a request sent it.
    pub(crate) fn see_arrivals(&mut self) {
        let mut asks = std::mem::take(&mut self.model.asks);
        for ask in asks.values_mut() {
            for wait in &ask.waits {
                let place = self.model.place(wait.id);
                let there = match (wait.aim, place) {
                    // What is gone is more than stopped.
                    (Aim::Gone | Aim::Down, None) => true,
                    (Aim::Gone, Some(_)) | (Aim::Up { .. }, None) => false,
                    (Aim::Down, Some(place)) => self.model.is_over(place),
                    (Aim::Up { after }, Some(place)) => {
                        let newer = |run: RunId| run > after;
                        let status = self.model.status(place);
                        // The old run is gone by then.
                        let alone = place.second.is_none() || place.successor().is_some();
                        let run = place.run.as_ref();
                        status == Status::Finished
                            || status == Status::Online && place.was_done
                            || status == Status::Online && alone && run.is_some_and(|run| newer(run.id))
                    }
                };
                let arrival = (wait.id, place.map_or_else(|| wait.who.clone(), Place::who));
                if there && !ask.arrived.contains(&arrival) {
                    ask.arrived.push(arrival);
                }
            }
        }
        self.model.asks = asks;
    }
}

/// Half of them want to hear what happens before the reply.
pub(crate) fn follows(client: ClientId) -> bool {
    client.0.is_multiple_of(2)
}

/// An instance does as an operator says; `others` serve for it.
fn obey(place: &mut Place, verb: Verb, how: Rollout, others: bool, now: Mono) {
    match verb {
        Verb::Stop => place.stop(Goal::Stop, others),
        Verb::Delete => place.stop(Goal::Remove, others),
        Verb::Start => place.start(),
        Verb::Restart | Verb::Reload => {
            let runs = place.is_up_or_coming();
            place.start();
            // What has changed comes to be, whatever becomes of the request.
            let changed = place.mark.map(|mark| mark.why).filter(|why| matches!(why, Why::Changed | Why::Watched));
            if runs {
                place.want(changed.unwrap_or(Why::Operator), Some(verb), now);
                place.mark.iter_mut().for_each(|mark| mark.parallel = how.parallel);
            }
        }
        Verb::Watch | Verb::Promote | Verb::Abort => {}
        Verb::Reset => (place.restarts, place.shorts, place.wait, place.retry_at) = (0, 0, 0, Mono(0)),
    }
}
