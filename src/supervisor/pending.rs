//! Requests that are under way, and when each is answered: one reply goes out when every instance has arrived where it
//! was sent, or cannot.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::app::App;
use super::event::{
    ClientId, Effect, InstanceId, Millis, Mono, Note, Obstacle, Outcome, Progress, Reason, RunId, Step, What,
};
use super::instance::{Goal, Instance, State};
use super::life::Life;
use super::order::Readiness;
use super::policy;
use super::spec::{AppSpec, Kind};

/// A request that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    pub(super) client: ClientId,
    pub(super) waits: Vec<Wait>,
    pub(super) outcome: Outcome,
    /// It asked for the end of pm3, and is answered just before that.
    #[serde(default)]
    pub(super) quits: bool,
    /// What the client hears meanwhile; None: it wants to hear nothing.
    #[serde(default)]
    pub(super) follows: Option<Following>,
}

/// How far a request has come for a client that follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Following {
    /// The instances that it waits for, or waited.
    of: u32,
    over: u32,
}

/// One instance that a request waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wait {
    pub(super) instance: InstanceId,
    /// As it was called when it was asked; an instance that is gone has no other name.
    pub(super) who: Box<str>,
    pub(super) aim: Aim,
    /// When the first thing happened to it that its client has heard of.
    #[serde(default)]
    pub(super) since: Option<Mono>,
    /// It is one more beside another, which may be in its way.
    #[serde(default)]
    pub(super) beside: Option<Box<Beside>>,
}

/// Another instance of the same app, and what it has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    pub(super) run: RunId,
    pub(super) who: Box<str>,
    /// None: that has been asked.
    pub(super) obstacle: Option<Obstacle>,
    /// When the new one will have lived for long enough to be sure that nothing was in its way.
    pub(super) until: Option<Mono>,
}

/// Where an instance was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Aim {
    /// Online, with a run after this one.
    Up {
        after: RunId,
    },
    /// The same, and so are all that belong to it.
    Whole {
        after: RunId,
    },
    Down,
    Gone,
    /// With a new run held that comes after this one.
    Held {
        after: RunId,
    },
    /// Without a second run.
    Alone,
}

/// The name of an instance's app, its own, and how far it is.
type Stand<'a> = (&'a str, Box<str>, Way);

/// An instance, the index of its app, and its own within that.
type Place = (InstanceId, usize, usize);

/// How far an instance is on the way that a request sent it.
enum Way {
    Underway,
    /// It is where it was sent, and has to stay there until then.
    Trial(Mono),
    Done,
    /// Its new run is held, and this is to be said of its app.
    Held(Box<str>),
    /// It ended as the file lets it, which is no failure, and is told.
    Over(Box<str>),
    Failed(Box<str>),
}

impl Pending {
    pub(super) fn new(client: ClientId, follows: bool) -> Pending {
        let follows = follows.then(Following::default);
        Pending { client, waits: Vec::new(), outcome: Outcome::default(), quits: false, follows }
    }

    pub(super) fn fail(&mut self, why: impl Into<Box<str>>) {
        self.outcome.failed.push(why.into());
    }

    pub(super) fn say(&mut self, what: impl Into<Box<str>>) {
        self.outcome.said.push(what.into());
    }

    pub(super) fn wait(&mut self, instance: InstanceId, who: Box<str>, aim: Aim) {
        self.waits.push(Wait { instance, who, aim, since: None, beside: None });
    }

    /// Tells that the request is under way, where it does not end at once.
    pub(super) fn begin(&mut self, out: &mut Vec<Effect>) {
        if let Some(following) = &mut self.follows
            && !self.waits.is_empty()
        {
            following.of = u32::try_from(self.waits.len()).unwrap_or(u32::MAX);
            let news = Progress { of: following.of, step: Step::Asked, ..Progress::default() };
            out.push(Effect::Progress { client: self.client, news: Box::new(news) });
        }
    }
}

impl Wait {
    fn lost(&self) -> String {
        format!("{}: is not there any more", self.who)
    }
}

impl Following {
    /// Tells of one instance: what happened to it in this step, and whether it has arrived with that.
    fn tell(
        &mut self,
        client: ClientId,
        wait: &mut Wait,
        stand: Option<&Stand<'_>>,
        news: &[(InstanceId, What)],
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let end = match (stand, wait.aim) {
            (Some((_, _, Way::Underway | Way::Trial(_))), _) => None,
            (Some((_, _, Way::Done | Way::Held(_))), _) | (None, Aim::Down | Aim::Gone) => {
                Some((Step::Done, "".into()))
            }
            (Some((_, _, Way::Over(what))), _) => Some((Step::Done, what.clone())),
            (Some((_, who, Way::Failed(why))), _) => Some((Step::Failed, format!("{who}: {why}").into())),
            (None, Aim::Up { .. } | Aim::Whole { .. } | Aim::Held { .. } | Aim::Alone) => {
                Some((Step::Failed, wait.lost().into()))
            }
        };
        let app = stand.map_or(&*wait.who, |(app, _, _)| app);
        let mut tell = |of: Following, since: Option<Mono>, step: Step, text: Box<str>| {
            let (of, over, id, app) = (of.of, of.over, Some(wait.instance), app.into());
            let after = since.map_or(Millis::ZERO, |since| Millis::between(since, now));
            let news = Box::new(Progress { of, over, step, id, app, text, after });
            out.push(Effect::Progress { client, news });
        };
        let own = news.iter().filter(|(id, _)| *id == wait.instance).filter_map(|(_, what)| what.as_progress(wait.aim));
        // That it is online is what was waited for.
        for (step, text) in own.filter(|(step, _)| end.is_none() || *step != Step::Online) {
            tell(*self, wait.since, step, text.into());
            wait.since.get_or_insert(now);
        }
        if let Some((step, text)) = end {
            self.over = self.over.saturating_add(1);
            tell(*self, wait.since, step, text);
        }
    }
}

/// What happened to instances.
fn news(effects: &[Effect]) -> Vec<(InstanceId, What)> {
    let of = |one: &Effect| {
        if let Effect::Note(Note { id: Some(id), what, .. }) = one { Some((*id, what.clone())) } else { None }
    };
    effects.iter().filter_map(of).collect()
}

impl Supervisor {
    /// Tells those who follow their requests what has happened, which are the notes in `out` from `before` on; and replies
    /// to every request whose instances have all arrived.
    pub(super) fn answer(&mut self, now: Mono, before: usize, out: &mut Vec<Effect>) {
        if self.pending.is_empty() {
            return;
        }
        let places = self.places();
        let mut pending = std::mem::take(&mut self.pending);
        let is_followed = pending.iter().any(|request| request.follows.is_some());
        let news = if is_followed { news(out.get(before..).unwrap_or_default()) } else { Vec::new() };
        pending.retain_mut(|request| {
            let waits = std::mem::take(&mut request.waits);
            for mut wait in waits {
                let stand = self.stand(&wait, now, &places);
                if let Some(following) = &mut request.follows {
                    following.tell(request.client, &mut wait, stand.as_ref(), &news, now, out);
                }
                let Some((_, who, way)) = stand else {
                    match wait.aim {
                        // More than stopped: the file has dropped it meanwhile.
                        Aim::Down | Aim::Gone => request.outcome.done.push(wait.who),
                        Aim::Up { .. } | Aim::Whole { .. } | Aim::Held { .. } | Aim::Alone => request.fail(wait.lost()),
                    }
                    continue;
                };
                match way {
                    Way::Underway => {
                        wait.beside.iter_mut().for_each(|beside| beside.until = None);
                        request.waits.push(wait);
                    }
                    Way::Trial(until) => {
                        wait.beside.iter_mut().for_each(|beside| beside.until = Some(until));
                        request.waits.push(wait);
                    }
                    Way::Done => request.outcome.done.push(who),
                    Way::Held(what) => {
                        // Of its app, and said once.
                        if !request.outcome.said.contains(&what) {
                            request.say(what);
                        }
                        request.outcome.done.push(who);
                    }
                    Way::Over(what) => {
                        request.say(format!("{who}: {what}"));
                        request.outcome.done.push(who);
                        self.call_off(wait.instance);
                    }
                    Way::Failed(why) => {
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

    /// One more is up. Whether there was room for it is clear when it has lived for a while, if the other has something
    /// for itself.
    fn has_room(&self, beside: &Beside, life: &Life, app: &AppSpec, now: Mono) -> Way {
        let until = life.since.after(policy::trial(app).span());
        match beside.obstacle {
            None if self.instances().any(|(_, other)| other.has_run(beside.run)) => Way::Underway,
            Some(_) if until > now && app.ready_within().is_none() => Way::Trial(until),
            None | Some(_) => Way::Done,
        }
    }

    /// What keeps another run from starting beside this one is known; None: nothing.
    pub(super) fn found_beside(&mut self, run: RunId, obstacle: Option<&Obstacle>) {
        for wait in self.pending.iter_mut().flat_map(|request| &mut request.waits) {
            let Some(beside) = wait.beside.as_deref_mut() else { continue };
            if beside.run == run && beside.obstacle.is_none() {
                beside.obstacle = obstacle.cloned();
                wait.beside = wait.beside.take().filter(|beside| beside.obstacle.is_some());
            }
        }
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
    pub(super) fn answer_all(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.answer(now, out.len(), out);
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

    /// None: it is not there any more.
    fn stand<'a>(&'a self, wait: &Wait, now: Mono, places: &[Place]) -> Option<Stand<'a>> {
        let found = places.binary_search_by_key(&wait.instance, |(id, _, _)| *id).ok()?;
        let (_, at, nth) = *places.get(found)?;
        let app = self.apps.get(at)?;
        let one = app.instances.get(nth)?;
        let way = match wait.aim {
            Aim::Gone => Way::Underway,
            Aim::Down if one.goal == Goal::Run => Way::Failed("was started again meanwhile".into()),
            Aim::Down if one.is_over() => Way::Done,
            Aim::Down => Way::Underway,
            Aim::Alone if one.second.is_none() && one.roll.is_none() => Way::Done,
            Aim::Alone => Way::Underway,
            Aim::Held { .. } | Aim::Whole { .. } | Aim::Up { .. } if one.goal != Goal::Run => {
                Way::Failed("was stopped meanwhile".into())
            }
            Aim::Held { .. } | Aim::Whole { .. } if one.spare => Way::Failed("a spare has taken its place".into()),
            Aim::Held { after } => match (one.held(), one.run()) {
                (Some(second), _) if second.life.run > after => Way::Held(app.told_of_hold(one).into()),
                (None, Some(run)) if run > after && one.is_online() => Way::Done,
                (None, _) if one.is_over() => Way::Failed(told(one, "did not come up")),
                // Its turn does not begin either, without what it waits for.
                (None, _)
                    if matches!(one.state, State::Waiting { .. }) || one.is_in_place() && one.waits_to_be_held() =>
                {
                    self.behind(app)
                }
                (None, _)
                    if app.hold.is_some() && (one.successor().is_some() || !one.is_online() || one.is_rolling()) =>
                {
                    Way::Underway
                }
                (Some(_) | None, _) => {
                    Way::Failed(format!("{}; pid {} goes on", told(one, "taken back"), one.pid()).into())
                }
            },
            // Nothing is decided yet. Who wants no more than that it runs has that.
            Aim::Up { after } | Aim::Whole { after }
                if one.held().is_some() && one.run().is_some_and(|run| run <= after) =>
            {
                Way::Underway
            }
            Aim::Up { after } | Aim::Whole { after } => match &one.state {
                // A reload is done when the old process is gone, too.
                State::Alive(life) if one.is_in_place() && life.run > after && one.has_leaver() => Way::Underway,
                State::Alive(life) if one.is_in_place() && life.run > after => match wait.beside.as_deref() {
                    Some(beside) => self.has_room(beside, life, &app.spec, now),
                    None => Way::Done,
                },
                State::Finished { .. } if app.spec.kind == Kind::Oneshot => Way::Done,
                State::Alive(_) if one.is_in_place() && one.has_failed_to_reload() => {
                    Way::Failed(format!("{}; pid {} goes on", told(one, "reload failed"), one.pid()).into())
                }
                State::Alive(_) if one.is_in_place() && one.new_was_done().is_some() => {
                    Way::Over(format!("{}; pid {} goes on", told(one, "reload"), one.pid()).into())
                }
                State::Finished { .. } => Way::Over(format!("finished, {}", told(one, "done")).into()),
                State::Alive(_) if one.is_in_place() && !one.is_rolling() => {
                    Way::Failed("keeps running as it is, another instance failed to restart".into())
                }
                State::Alive(_) if !one.is_in_place() => Way::Underway,
                // That is the machine's affair, and the others serve without one.
                State::Errored { .. } if one.is_unfit() => Way::Over(told(one, "cannot stand by")),
                State::Errored { .. } | State::Backoff { .. } => {
                    let in_its_way = wait.beside.as_deref().and_then(|beside| beside.tell(&app.spec));
                    let why = told(one, "did not come up");
                    Way::Failed(in_its_way.map_or(why.clone(), |other| format!("{why}; {other}").into()))
                }
                // Without what it waits for it neither comes up nor, running, begins its turn.
                State::Waiting { .. } | State::Alive(_) => self.behind(app),
                State::Settling { .. } | State::Stopped => Way::Underway,
            },
        };
        Some((&app.spec.name, one.who(&app.spec), way))
    }

    /// How far one of an app is that waits for others.
    fn behind(&self, app: &App) -> Way {
        match (self.readiness(app), self.stuck_on(app)) {
            (_, Some(other)) => {
                Way::Failed(format!("waits for {other}, which is not running; start {other} too").into())
            }
            (Readiness::Broken(other, _), None) => Way::Failed(format!("requires {other}, which failed").into()),
            (Readiness::Ready | Readiness::Waits(_), None) => Way::Underway,
        }
    }
}

impl Wait {
    /// When it is clear that nothing was in its way.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.beside.as_deref().and_then(|beside| beside.until)
    }
}

impl Beside {
    /// What is in the way, and what to do about it.
    fn tell(&self, app: &AppSpec) -> Option<String> {
        let (obstacle, name) = (self.obstacle.as_ref()?, &app.name);
        let advice = match obstacle {
            Obstacle::Port(_) if app.owns_ports() => {
                "exec_mode = \"cluster\" shares TCP ports, increment_var = \"PORT\" gives each instance its own".into()
            }
            Obstacle::Port(_) => format!(
                "`pm3 show {name}` says why it is not shared; increment_var = \"PORT\" gives each instance its own"
            ),
            Obstacle::Socket(_) => "each instance needs one of its own, as by $NODE_APP_INSTANCE".into(),
            Obstacle::Unseen(_) => return None,
        };
        Some(format!("{} may be in its way, {obstacle}: {advice}", self.who))
    }
}

fn told(one: &Instance, otherwise: &str) -> Box<str> {
    one.reason.as_deref().map_or_else(|| otherwise.into(), |reason| reason.to_string().into())
}
