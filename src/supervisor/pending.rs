//! Requests that are under way, and when each is answered: one reply goes out when every instance has arrived where it
//! was sent, or cannot.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{ClientId, Effect, InstanceId, Outcome, Reason, RunId};
use super::instance::{Goal, Instance, State};
use super::order::Readiness;
use super::spec::Kind;

/// A request that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    pub(super) client: ClientId,
    pub(super) waits: Vec<Wait>,
    pub(super) outcome: Outcome,
    /// It asked for the end of pm3, and is answered just before that.
    #[serde(default)]
    pub(super) quits: bool,
}

/// One instance that a request waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wait {
    pub(super) instance: InstanceId,
    /// As it was called when it was asked; an instance that is gone has no other name.
    pub(super) who: Box<str>,
    pub(super) aim: Aim,
}

/// Where an instance was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Aim {
    /// Online, with a run after this one.
    Up {
        after: RunId,
    },
    Down,
    Gone,
}

/// An instance, the index of its app, and its own within that.
type Place = (InstanceId, usize, usize);

/// How far an instance is on the way that a request sent it.
enum Progress {
    Underway,
    Done,
    /// It ended as the file lets it, which is no failure, and is told.
    Over(Box<str>),
    Failed(Box<str>),
}

impl Pending {
    pub(super) fn new(client: ClientId) -> Pending {
        Pending { client, waits: Vec::new(), outcome: Outcome::default(), quits: false }
    }

    pub(super) fn fail(&mut self, why: impl Into<Box<str>>) {
        self.outcome.failed.push(why.into());
    }

    pub(super) fn say(&mut self, what: impl Into<Box<str>>) {
        self.outcome.said.push(what.into());
    }

    pub(super) fn wait(&mut self, instance: InstanceId, who: Box<str>, aim: Aim) {
        self.waits.push(Wait { instance, who, aim });
    }
}

impl Supervisor {
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
                let Some((who, progress)) = self.progress(&wait, &places) else {
                    match wait.aim {
                        // More than stopped: the file has dropped it meanwhile.
                        Aim::Down | Aim::Gone => request.outcome.done.push(wait.who),
                        Aim::Up { .. } => request.fail(format!("{}: is not there any more", wait.who)),
                    }
                    continue;
                };
                match progress {
                    Progress::Underway => request.waits.push(wait),
                    Progress::Done => request.outcome.done.push(who),
                    Progress::Over(what) => {
                        request.say(format!("{who}: {what}"));
                        request.outcome.done.push(who);
                        self.call_off(wait.instance);
                    }
                    Progress::Failed(why) => {
                        request.fail(format!("{who}: {why}"));
                        self.call_off(wait.instance);
                    }
                }
            }
            let underway = request.quits || !request.waits.is_empty();
            if !underway {
                let outcome = std::mem::take(&mut request.outcome);
                out.push(Effect::Reply { client: request.client, outcome });
            }
            underway
        });
        self.pending = pending;
    }

    /// A restart of which it was said that it does not come does not come later as a surprise.
    fn call_off(&mut self, id: InstanceId) {
        let is_asked = |one: &Instance| one.roll.as_deref().is_some_and(|roll| roll.reason == Reason::Operator);
        let mut instances = self.apps.iter_mut().flat_map(|app| &mut app.instances);
        if let Some(one) = instances.find(|one| one.id == id && is_asked(one)) {
            one.roll = None;
        }
    }

    /// Something that everybody should know who waits for this instance.
    pub(super) fn say(&mut self, id: InstanceId, what: &str) {
        let waiting = self.pending.iter_mut().filter(|request| request.waits.iter().any(|wait| wait.instance == id));
        for request in waiting.filter(|request| request.outcome.said.iter().all(|said| **said != *what)) {
            request.say(what);
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
            if request.quits {
                request.outcome.done.push("pm3".into());
            } else {
                request.fail("pm3 is stopping");
            }
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

    fn progress(&self, wait: &Wait, places: &[Place]) -> Option<(Box<str>, Progress)> {
        let found = places.binary_search_by_key(&wait.instance, |(id, _, _)| *id).ok()?;
        let (_, at, nth) = *places.get(found)?;
        let app = self.apps.get(at)?;
        let one = app.instances.get(nth)?;
        let progress = match wait.aim {
            Aim::Gone => Progress::Underway,
            Aim::Down if one.goal == Goal::Run => Progress::Failed("was started again meanwhile".into()),
            Aim::Down if one.is_over() => Progress::Done,
            Aim::Down => Progress::Underway,
            Aim::Up { .. } if one.goal != Goal::Run => Progress::Failed("was stopped meanwhile".into()),
            Aim::Up { after } => match &one.state {
                // A reload is done when the old process is gone, too.
                State::Alive(life) if one.is_online() && life.run > after && one.has_leaver() => Progress::Underway,
                State::Alive(life) if one.is_online() && life.run > after => Progress::Done,
                State::Finished { .. } if app.spec.kind == Kind::Oneshot => Progress::Done,
                State::Alive(_) if one.is_online() && one.has_failed_to_reload() => {
                    Progress::Failed(format!("{}; pid {} goes on", told(one, "reload failed"), one.pid()).into())
                }
                State::Alive(_) if one.is_online() && one.new_was_done().is_some() => {
                    Progress::Over(format!("{}; pid {} goes on", told(one, "reload"), one.pid()).into())
                }
                State::Finished { .. } => Progress::Over(format!("finished, {}", told(one, "done")).into()),
                State::Alive(_) if one.is_online() && !app.is_rolling(one.id) => {
                    Progress::Failed("keeps running as it is, another instance failed to restart".into())
                }
                State::Alive(_) if !one.is_online() => Progress::Underway,
                State::Errored { .. } | State::Backoff { .. } => Progress::Failed(told(one, "did not come up")),
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
}

fn told(one: &Instance, otherwise: &str) -> Box<str> {
    one.reason.as_deref().map_or_else(|| otherwise.into(), |reason| reason.to_string().into())
}
