//! What operators ask for, and when it is done. A request names targets; each is looked up as a name, then a
//! namespace, then an id (PM2's order), and every one is tried. One reply goes out when each instance has arrived
//! where it was sent, or cannot.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{ClientId, Effect, InstanceId, Mono, Note, Outcome, Reason, RunId, Verb, What};
use super::instance::{Goal, Instance, State, Turn};
use super::order::Readiness;
use super::spec::Kind;

/// Requests under way at once. Each waits for processes; a script that asks for more than this is not reading.
const REQUESTS_MAX: usize = 256;

/// For so many unknown targets of a request the nearest name is looked for, which takes as long as there are names.
const SUGGESTIONS_MAX: usize = 8;

/// A request that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    client: ClientId,
    verb: Verb,
    waits: Vec<Wait>,
    outcome: Outcome,
}

/// One instance that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
    instance: InstanceId,
    /// Only a run after this one counts as started.
    after: RunId,
}

/// An instance, the index of its app, and its own within that.
type Place = (InstanceId, usize, usize);

/// How far an instance is on the way that a request sent it.
enum Progress {
    Underway,
    Done,
    Failed(Box<str>),
}

impl Supervisor {
    pub(super) fn request(
        &mut self,
        client: ClientId,
        verb: Verb,
        targets: &[Box<str>],
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let refusal = if self.is_ending() {
            Some("pm3 is stopping")
        } else if self.pending.len() >= REQUESTS_MAX {
            Some("too many requests are under way, try again later")
        } else {
            None
        };
        if let Some(why) = refusal {
            let outcome = Outcome { done: Vec::new(), failed: vec![why.into()] };
            return out.push(Effect::Reply { client, outcome });
        }
        let mut outcome = Outcome::default();
        let mut ids: Vec<InstanceId> = Vec::new();
        // Each once: a line has room for `all` ten thousand times.
        let mut known = BTreeSet::new();
        for target in targets.iter().filter(|target| known.insert(&***target)) {
            let found = self.resolve(target);
            if found.is_empty() {
                outcome.failed.push(self.unknown(target, outcome.failed.len() < SUGGESTIONS_MAX));
            }
            ids.extend(found);
        }
        ids.sort_unstable();
        let mut waits = Vec::new();
        let (settle, random, last_run) = (self.settings.settle, self.draw(), self.last_run);
        for app in &mut self.apps {
            let mut turn = Turn { now, settle, random, out };
            for instance in app.instances.iter_mut().filter(|one| ids.binary_search(&one.id).is_ok()) {
                let mut after = last_run;
                match verb {
                    Verb::Stop => {
                        instance.goal = Goal::Stop;
                        instance.stop(Reason::Operator, &app.spec, &mut turn);
                    }
                    // What runs already is where it was sent.
                    Verb::Start => {
                        if let Some(run) = instance.run().filter(|_| instance.is_up_or_coming()) {
                            after = RunId(run.0.saturating_sub(1));
                        }
                        instance.start();
                    }
                    Verb::Restart => {
                        instance.start();
                        if instance.is_up_or_coming() {
                            instance.roll = Some(Box::new(Reason::Operator));
                        }
                    }
                }
                waits.push(Wait { instance: instance.id, after });
            }
        }
        self.pending.push(Pending { client, verb, waits, outcome });
    }

    /// Replies to every request whose instances have all arrived.
    pub(super) fn answer(&mut self, out: &mut Vec<Effect>) {
        if self.pending.is_empty() {
            return;
        }
        let places = self.places();
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain_mut(|request| {
            let waits = std::mem::take(&mut request.waits);
            for wait in waits {
                let Some((who, progress)) = self.progress(request.verb, wait, &places) else {
                    let id = wait.instance;
                    match request.verb {
                        // More than stopped: the file has dropped it meanwhile.
                        Verb::Stop => request.outcome.done.push(id.to_string().into()),
                        Verb::Start | Verb::Restart => {
                            request.outcome.failed.push(format!("{id}: is not there any more").into());
                        }
                    }
                    continue;
                };
                match progress {
                    Progress::Underway => request.waits.push(wait),
                    Progress::Done => request.outcome.done.push(who),
                    Progress::Failed(why) => {
                        request.outcome.failed.push(format!("{who}: {why}").into());
                        self.call_off(wait.instance);
                    }
                }
            }
            if request.waits.is_empty() {
                let outcome = std::mem::take(&mut request.outcome);
                out.push(Effect::Reply { client: request.client, outcome });
            }
            !request.waits.is_empty()
        });
        self.pending = pending;
    }

    /// A restart that was said to have failed does not come later as a surprise.
    fn call_off(&mut self, id: InstanceId) {
        let mut instances = self.apps.iter_mut().flat_map(|app| &mut app.instances);
        if let Some(one) = instances.find(|one| one.id == id && one.roll.as_deref() == Some(&Reason::Operator)) {
            one.roll = None;
        }
    }

    /// What it asked for goes on; nobody reads the answer.
    pub(super) fn forget_client(&mut self, client: ClientId) {
        self.pending.retain(|request| request.client != client);
    }

    /// pm3 ends: nobody is left waiting for an answer.
    pub(super) fn answer_all(&mut self, out: &mut Vec<Effect>) {
        self.answer(out);
        for mut request in std::mem::take(&mut self.pending) {
            request.outcome.failed.push("pm3 is stopping".into());
            out.push(Effect::Reply { client: request.client, outcome: request.outcome });
        }
    }

    /// Where each instance is, by its id. Found once for all that is waited for: there may be a thousand of either.
    fn places(&self) -> Vec<Place> {
        let apps = self.apps.iter().enumerate();
        let mut places: Vec<Place> = apps
            .flat_map(|(at, app)| app.instances.iter().enumerate().map(move |(nth, one)| (one.id, at, nth)))
            .collect();
        places.sort_unstable();
        places
    }

    fn progress(&self, verb: Verb, wait: Wait, places: &[Place]) -> Option<(Box<str>, Progress)> {
        let found = places.binary_search_by_key(&wait.instance, |(id, _, _)| *id).ok()?;
        let (_, at, nth) = *places.get(found)?;
        let app = self.apps.get(at)?;
        let one = app.instances.get(nth)?;
        let progress = match verb {
            Verb::Stop if one.goal == Goal::Run => Progress::Failed("was started again meanwhile".into()),
            Verb::Stop if one.is_over() => Progress::Done,
            Verb::Stop => Progress::Underway,
            Verb::Start | Verb::Restart if one.goal != Goal::Run => Progress::Failed("was stopped meanwhile".into()),
            Verb::Start | Verb::Restart => match &one.state {
                State::Alive(life) if one.is_online() && life.run > wait.after => Progress::Done,
                State::Finished { .. } if app.spec.kind == Kind::Oneshot => Progress::Done,
                State::Alive(_) if one.is_online() && !app.is_rolling(one.id) => {
                    Progress::Failed("keeps running as it is, another instance failed to restart".into())
                }
                State::Alive(_) if !one.is_online() => Progress::Underway,
                State::Errored { .. } | State::Finished { .. } | State::Backoff { .. } => {
                    Progress::Failed(told(one, "did not come up"))
                }
                // Without what it waits for it neither comes up nor, running, begins its turn.
                State::Waiting { .. } | State::Alive(_) => match (self.readiness(app), self.stuck_on(app)) {
                    (_, Some(other)) => {
                        Progress::Failed(format!("waits for {other}, which is not running; start {other} too").into())
                    }
                    (Readiness::Broken(other, _), None) => {
                        Progress::Failed(format!("requires {other}, which failed").into())
                    }
                    (Readiness::Ready | Readiness::Waits(_), None) => Progress::Underway,
                },
                State::Settling { .. } | State::Stopped => Progress::Underway,
            },
        };
        Some((one.who(&app.spec), progress))
    }

    fn resolve(&self, target: &str) -> Vec<InstanceId> {
        let kept = |one: &&Instance| one.goal != Goal::Remove;
        let of = |chosen: &dyn Fn(&super::app::App) -> bool| -> Vec<InstanceId> {
            let apps = self.apps.iter().filter(|app| chosen(app));
            apps.flat_map(|app| &app.instances).filter(kept).map(|one| one.id).collect()
        };
        if target == "all" {
            return of(&|_| true);
        }
        let named = of(&|app| *app.spec.name == *target);
        if !named.is_empty() {
            return named;
        }
        let spaced = of(&|app| app.spec.namespace.as_deref().unwrap_or("default") == target);
        if !spaced.is_empty() {
            return spaced;
        }
        let Ok(id) = target.parse().map(InstanceId) else { return Vec::new() };
        self.apps
            .iter()
            .flat_map(|app| &app.instances)
            .filter(kept)
            .filter(|one| one.id == id)
            .map(|one| one.id)
            .collect()
    }

    fn unknown(&self, target: &str, suggests: bool) -> Box<str> {
        let names = self.apps.iter().filter(|app| suggests && !app.gone).map(|app| &*app.spec.name);
        match super::near::nearest(target, names) {
            Some(near) => format!("{target}: no such app, namespace or id; did you mean {near}?").into(),
            None => format!("{target}: no such app, namespace or id; `pm3 list` shows what there is").into(),
        }
    }

    /// A note of pm3's own affairs.
    pub(super) fn tell(text: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Note(Note { who: "pm3".into(), what: What::Pm3(text.into()) }));
    }
}

fn told(one: &Instance, otherwise: &str) -> Box<str> {
    one.reason.as_deref().map_or_else(|| otherwise.into(), |reason| reason.to_string().into())
}
