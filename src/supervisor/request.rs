//! What clients ask for. A request names targets; each is looked up as a name, then a namespace, then an id (PM2's
//! order), and every one is tried. When it is done is told in `pending`.

use std::collections::BTreeMap;

use super::Supervisor;
use super::app::App;
use super::event::{
    ClientId, Count, Effect, InstanceId, Mono, Note, Outcome, Reason, Rollout, RunId, Scope, Sig, Verb, What, Wish,
};
use super::instance::{Goal, Instance, Turn};
use super::pending::{Aim, Beside, Pending, Wait};
use super::policy::{self, Record};
use super::spec::{AppSpec, Kind, Shell};

/// Requests under way at once. Each waits for processes; a script that asks for more than this is not reading.
const REQUESTS_MAX: usize = 256;

/// For so many unknown targets of a request the nearest name is looked for, which takes as long as there are names.
const SUGGESTIONS_MAX: usize = 8;

/// What is to be done with instances, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) verb: Verb,
    pub(super) how: Rollout,
}

impl Order {
    /// As usual.
    fn plain(verb: Verb) -> Order {
        Order { verb, how: Rollout::default() }
    }
}

impl Supervisor {
    pub(super) fn request(&mut self, client: ClientId, wish: Wish, follows: bool, now: Mono, out: &mut Vec<Effect>) {
        let mut pending = Pending::new(client, follows);
        let refusal = if self.is_ending() && wish != Wish::Quit {
            Some("pm3 is stopping")
        } else if self.pending.len() >= REQUESTS_MAX {
            Some("too many requests are under way, try again later")
        } else {
            None
        };
        if let Some(why) = refusal {
            let outcome = Outcome { failed: vec![why.into()], ..Outcome::default() };
            return out.push(Effect::Reply { client, outcome });
        }
        match wish {
            Wish::Operate { verb, targets, shell, how } => {
                let ids = self.resolve_all(&targets, &mut pending.outcome);
                self.operate(Order { verb, how }, &ids, shell.as_ref(), &mut pending, now, out);
            }
            Wish::Apply { verb, apps, renew, how } => {
                self.apply(Order { verb, how }, apps, renew, &mut pending, now, out);
            }
            Wish::Scale { target, to } => self.scale(target, to, &mut pending, now, out),
            Wish::Signal { sig, targets } => {
                let ids = self.resolve_all(&targets, &mut pending.outcome);
                self.send(sig, &ids, &mut pending, out);
            }
            Wish::Quit => {
                pending.quits = true;
                if !self.is_ending() {
                    self.begin_ending(None, "a client's request", now, out);
                }
            }
        }
        pending.begin(out);
        self.pending.push(pending);
    }

    fn operate(
        &mut self,
        order: Order,
        ids: &[InstanceId],
        shell: Option<&Shell>,
        pending: &mut Pending,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let (Order { verb, .. }, last_run) = (order, self.last_run);
        let mut promoted: Vec<Box<str>> = Vec::new();
        self.each_app(now, out, |app, turn| {
            let is_meant = |one: &Instance| ids.binary_search(&one.id).is_ok();
            let is_canary = app.hold.is_some();
            if !app.instances.iter().any(is_meant) || app.holds(order, shell, is_meant, last_run, pending, turn) {
                if verb == Verb::Promote && is_canary && app.hold.is_none() {
                    promoted.push(app.spec.name.clone());
                }
                return;
            }
            for one in app.instances.iter().filter(|one| is_meant(one)) {
                let who = one.who(&app.spec);
                match aim(verb, one, last_run) {
                    Some(aim) => pending.wait(one.id, who, aim),
                    None => pending.outcome.done.push(who),
                }
            }
            if let Some(shell) = shell {
                app.spec.launch.shell = shell.clone();
            }
            if matches!(verb, Verb::Start | Verb::Restart | Verb::Reload) {
                app.revive();
            }
            app.warn_of_gap(verb, is_meant, pending);
            let serves = |one: &Instance| one.goal == Goal::Run && one.is_online();
            let others = app.instances.iter().any(|one| serves(one) && !is_meant(one));
            for one in app.instances.iter_mut().filter(|one| is_meant(one)) {
                one.obey(order, others, &app.spec, turn);
            }
            if verb == Verb::Watch {
                pending.say(app.toggle_watch());
            }
            if verb == Verb::Delete {
                app.shrink(turn);
            }
        });
        if !promoted.is_empty() {
            // What comes into force may want more of them, or fewer.
            self.fit(now, out);
            self.ask_missing_schedules(out);
            self.wait_for_all(&promoted, last_run, pending);
        }
    }

    /// Waits until all instances of these apps that are to run are as their entries have it.
    pub(super) fn wait_for_all(&self, names: &[Box<str>], last_run: RunId, pending: &mut Pending) {
        for app in self.apps.iter().filter(|app| names.contains(&app.spec.name)) {
            for one in app.instances.iter().filter(|one| one.goal == Goal::Run) {
                // Nobody waits for a decision who has not asked for what is decided about.
                let is_undecided = one.waits_to_be_held() || one.held().is_some();
                let comes_anew = one.roll.is_some() && !is_undecided;
                let after = if comes_anew { last_run } else { one.newest_before(last_run) };
                pending.wait(one.id, one.who(&app.spec), Aim::Up { after });
            }
        }
    }

    fn scale(&mut self, target: Box<str>, to: Count, pending: &mut Pending, now: Mono, out: &mut Vec<Effect>) {
        let ids = self.resolve_all(&[target], &mut pending.outcome);
        let is_meant = |app: &App| app.instances.iter().any(|one| ids.binary_search(&one.id).is_ok());
        for at in 0..self.apps.len() {
            let Some(app) = self.apps.get(at).filter(|app| is_meant(app)) else { continue };
            let (name, before) = (&app.spec.name, app.spec.instances);
            let count = match to {
                Count::Exactly(count) => count,
                Count::Up(more) => before.saturating_add(more),
                Count::Down(fewer) => match before.checked_sub(fewer) {
                    Some(count) => count,
                    None => {
                        pending.fail(format!("{name}: has {before} instances, {fewer} fewer cannot be"));
                        continue;
                    }
                },
            };
            if count == before {
                pending.say(format!("{name}: has {before} instance{} already", if before == 1 { "" } else { "s" }));
                continue;
            }
            let counts = self.apps.iter().enumerate();
            let counts = counts.map(|(of, app)| (&app.spec, if of == at { count } else { app.spec.instances }));
            if let Some(why) = self.crowding(counts).filter(|_| count > before) {
                pending.fail(format!("{name}: {why}"));
                continue;
            }
            let (settle, random, last_run, mut next) =
                (self.settings.settle, self.draw(), self.last_run, self.next_instance);
            let Some(app) = self.apps.get_mut(at) else { continue };
            app.rescale(count, last_run, &mut next, pending, &mut Turn { now, settle, random, out });
            self.next_instance = next;
            if count > before {
                app.look_beside(pending, out);
            }
        }
    }

    /// Sends a signal to the main processes of these instances.
    fn send(&self, sig: Sig, ids: &[InstanceId], pending: &mut Pending, out: &mut Vec<Effect>) {
        for (app, one) in self.instances().filter(|(_, one)| ids.binary_search(&one.id).is_ok()) {
            let who = one.who(app);
            match one.run().filter(|_| one.pid() > 0) {
                Some(run) => {
                    out.push(Effect::Signal { run, sig, scope: Scope::Process });
                    pending.outcome.done.push(who);
                }
                None => pending.fail(format!("{who}: has no process, it is {}", one.status())),
            }
        }
    }

    /// The instances that the targets name, sorted, each once; what names none is told in the outcome. It is the apps that
    /// are looked up among the targets: a line has room for ten thousand of those, and whoever sends them may only look.
    pub fn resolve_all(&self, targets: &[Box<str>], outcome: &mut Outcome) -> Vec<InstanceId> {
        let mut asked: BTreeMap<&str, Meant> = targets.iter().map(|target| (&**target, Meant::Nothing)).collect();
        let kept = |app: &App| app.instances.iter().any(|one| one.goal != Goal::Remove);
        for app in self.apps.iter().filter(|app| kept(app)) {
            for (word, meant) in [(&*app.spec.name, Meant::Name), (namespace(app), Meant::Namespace)] {
                if let Some(found) = asked.get_mut(word) {
                    *found = meant.max(*found);
                }
            }
        }
        let numbers = asked.iter().filter(|(_, meant)| **meant == Meant::Nothing);
        let mut numbers: Vec<u32> = numbers.filter_map(|(target, _)| target.parse().ok()).collect();
        numbers.sort_unstable();
        let all = asked.contains_key("all");
        let mut ids: Vec<InstanceId> = Vec::new();
        for app in &self.apps {
            let is = |word: &str, meant: Meant| asked.get(word) == Some(&meant);
            let whole = all || is(&app.spec.name, Meant::Name) || is(namespace(app), Meant::Namespace);
            let chosen =
                |one: &&Instance| one.goal != Goal::Remove && (whole || numbers.binary_search(&one.id.0).is_ok());
            ids.extend(app.instances.iter().filter(chosen).map(|one| one.id));
        }
        ids.sort_unstable();
        let has = |id: u32| ids.binary_search(&InstanceId(id)).is_ok();
        for target in targets {
            match asked.remove(&**target) {
                // PM2 takes it for no mistake.
                Some(_) if **target == *"all" => {
                    if ids.is_empty() {
                        outcome.said.push("there is no app".into());
                    }
                }
                Some(Meant::Nothing) if !target.parse().is_ok_and(has) => {
                    outcome.failed.push(self.unknown(target, outcome.failed.len() < SUGGESTIONS_MAX));
                }
                // None: it was there before.
                Some(Meant::Nothing | Meant::Name | Meant::Namespace) | None => {}
            }
        }
        ids
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
        out.push(Effect::Note(Note { who: "pm3".into(), id: None, what: What::Pm3(text.into()) }));
    }
}

/// What a word is the name of, the weightiest last; what is no name may be an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meant {
    Nothing,
    Namespace,
    Name,
}

fn namespace(app: &App) -> &str {
    app.spec.namespace.as_deref().unwrap_or("default")
}

/// Where a verb sends an instance; None: nowhere, it is done with being asked.
fn aim(verb: Verb, one: &Instance, last_run: RunId) -> Option<Aim> {
    match verb {
        Verb::Start => Some(Aim::Up { after: one.newest_before(last_run) }),
        Verb::Restart | Verb::Reload => Some(Aim::Up { after: last_run }),
        Verb::Stop => Some(Aim::Down),
        Verb::Delete => Some(Aim::Gone),
        Verb::Reset | Verb::Watch | Verb::Promote | Verb::Abort => None,
    }
}

impl Instance {
    /// The run after which one counts as started: what runs already is where `start` sends it.
    pub(super) fn newest_before(&self, last_run: RunId) -> RunId {
        let up = self.run().filter(|_| self.is_up_or_coming());
        up.map_or(last_run, |run| RunId(run.0.saturating_sub(1)))
    }

    /// Goes where an operator sends it. `others` serve for it.
    pub(super) fn obey(&mut self, order: Order, others: bool, app: &AppSpec, turn: &mut Turn<'_>) {
        match order.verb {
            Verb::Start => self.start(),
            Verb::Restart | Verb::Reload => {
                let runs = self.is_up_or_coming();
                self.start();
                // What has changed comes to be, whatever becomes of the request.
                if runs {
                    let is_change = |reason: &Reason| matches!(reason, Reason::Changed | Reason::Watched(_));
                    let changed = self.roll.take().map(|roll| roll.reason).filter(is_change);
                    let reason = changed.unwrap_or(Reason::Operator);
                    self.mark(reason, policy::asked_manner(app, order.verb), app, turn.now);
                    self.roll.iter_mut().for_each(|roll| (roll.parallel, roll.is_asked) = (order.how.parallel, true));
                }
            }
            Verb::Stop => {
                self.goal = Goal::Stop;
                self.stop(Reason::Operator, others, app, turn);
            }
            Verb::Delete => {
                self.goal = Goal::Remove;
                self.stop(Reason::Operator, others, app, turn);
            }
            // Of the app, not of an instance.
            Verb::Watch | Verb::Promote | Verb::Abort => {}
            Verb::Reset => {
                self.restarts = 0;
                self.record = Record::default();
            }
        }
    }
}

impl App {
    /// A reload that is none, because the entry does not let two runs be at once.
    pub(super) fn warn_of_gap(&self, verb: Verb, is_meant: impl Fn(&Instance) -> bool, pending: &mut Pending) {
        let runs = self.instances.iter().any(|one| is_meant(one) && one.is_up_or_coming());
        if let Some(why) = policy::bars_overlap(&self.spec).filter(|_| verb == Verb::Reload && runs) {
            pending.say(format!("{}: {why}, so the old process is ended first", self.spec.name));
        }
    }

    /// Some instances are on their way out for good: the others are as many as there shall be.
    fn shrink(&mut self, turn: &mut Turn<'_>) {
        let kept = |spare| self.instances.iter().filter(|one| one.goal != Goal::Remove && one.spare == spare).count();
        let (kept, spares) = (kept(false), u32::try_from(kept(true)).unwrap_or(u32::MAX));
        match u32::try_from(kept) {
            Ok(0) | Err(_) => self.vanish(turn),
            Ok(kept) if kept < self.spec.instances => self.resize(kept),
            Ok(_) => {}
        }
        if let Some(standby) = self.spec.standby.as_deref_mut() {
            standby.count = standby.count.min(spares);
        }
    }

    /// None is left but spares, which are nobody's then.
    fn vanish(&mut self, turn: &mut Turn<'_>) {
        (self.gone, self.cron_at) = (true, None);
        for one in self.instances.iter_mut().filter(|one| one.goal != Goal::Remove) {
            one.goal = Goal::Remove;
            one.stop(Reason::Operator, false, &self.spec, turn);
        }
    }

    /// New instances may not find the room that one has for itself, as a port: what that is, is asked.
    fn look_beside(&self, pending: &mut Pending, out: &mut Vec<Effect>) {
        let is_alone = |one: &&Instance| one.goal == Goal::Run && one.is_online() && !one.listens();
        let Some(other) = self.instances.iter().find(is_alone).filter(|_| self.spec.kind == Kind::Service) else {
            return;
        };
        let Some(run) = other.run() else { return };
        let is_new = |wait: &Wait| {
            let own = self.instances.iter().any(|one| one.id == wait.instance && one.id != other.id);
            own && matches!(wait.aim, Aim::Up { .. })
        };
        let beside = Beside { run, who: other.who(&self.spec), obstacle: None, until: None };
        for wait in pending.waits.iter_mut().filter(|wait| is_new(wait)) {
            wait.beside = Some(Box::new(beside.clone()));
        }
        out.push(Effect::Survey { run });
    }

    /// Takes up or gives up instances until there are `count`.
    fn rescale(&mut self, count: u32, last_run: RunId, next_id: &mut u32, pending: &mut Pending, turn: &mut Turn<'_>) {
        let was_none = self.spec.instances == 0;
        let kept: Vec<(InstanceId, Box<str>)> = self
            .instances
            .iter()
            .filter(|one| one.goal != Goal::Remove)
            .map(|one| (one.id, one.who(&self.spec)))
            .collect();
        self.resize(count);
        self.fit(Goal::Run, &Reason::Operator, next_id, turn);
        for one in &mut self.instances {
            // It is called as before if it was there before.
            let known = kept.iter().find(|(id, _)| *id == one.id).map(|(_, who)| who);
            let aim = match (one.goal, known) {
                (Goal::Remove, Some(_)) => Aim::Gone,
                (Goal::Remove, None) => continue,
                (Goal::Run | Goal::Idle | Goal::Stop, _) if count == 0 => {
                    one.obey(Order::plain(Verb::Stop), false, &self.spec, turn);
                    Aim::Down
                }
                (Goal::Run | Goal::Idle | Goal::Stop, Some(_)) if !was_none => continue,
                (Goal::Run | Goal::Idle | Goal::Stop, _) => {
                    one.obey(Order::plain(Verb::Start), false, &self.spec, turn);
                    Aim::Up { after: last_run }
                }
            };
            let who = known.cloned().unwrap_or_else(|| one.who(&self.spec));
            pending.wait(one.id, who, aim);
        }
    }
}
