//! Successors that are held: new runs that have proven themselves and serve, while their old ones are kept until it is
//! decided about all of them. So nothing that is tried is final.
//!
//! - **Rollback** (`reload --rollback`): each new run serves in place of its old one, which is set aside and not
//!   signalled. When all have proven themselves they take over for good; if one fails, all are ended and the old runs
//!   serve again. There is nothing to start for that, so it works whatever has changed.
//! - **Canary** (`reload --canary 5%`): new runs beside the old ones of as many instances get that share of new connections,
//!   until an operator says `--promote` or `--abort`. One that ends or is not well takes all of them back; so does an old run
//!   that is not well, as it is to be replaced and there is room for two. One that ends leaves its place to the new one.
//!
//! A changed entry comes into force with the decision: until then the new runs alone are started with it. What an instance
//! knows of all this is its part (`reload::Part`); who belongs together, and what is decided, is here.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::app::App;
use super::event::{Effect, InstanceId, Mono, Note, Reason, RunId, Verb, What};
use super::instance::{Goal, Instance, Turn};
use super::pace::Amount;
use super::pending::{Aim, Pending};
use super::policy;
use super::reload::{Manner, Part, Roll, Second};
use super::request::Order;
use super::spec::{AppSpec, Shell};

/// What a reload does so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Care {
    /// All of the new runs take over, or none.
    Rollback,
    /// So many instances get one beside the old one, and no more happens before somebody says so.
    Canary(Amount),
}

/// What a held run gets of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// All that its instance gets.
    Whole,
    /// As much as any other run.
    Equal,
    /// Together with the others that are held, so many of a hundred.
    Percent(u8),
}

impl Care {
    fn share(self) -> Share {
        match self {
            Care::Rollback => Share::Whole,
            Care::Canary(Amount::Count(_)) => Share::Equal,
            Care::Canary(Amount::Percent(percent)) => Share::Percent(percent),
        }
    }
}

/// What is held of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub care: Care,
    /// The entry that comes into force with the new runs; None: the one that is.
    pub next: Option<Box<AppSpec>>,
    /// How many instances it asks for itself, whatever an operator has chosen.
    instances: u32,
    /// Whose runs are to be new.
    members: Vec<InstanceId>,
    /// The new runs that have been started.
    runs: Vec<RunId>,
    /// Then the next one will have proven itself of those whose old run ended before they had.
    #[serde(default)]
    pub(super) until: Option<Mono>,
}

/// What an operator wants to be held.
pub(super) struct Wanted {
    pub(super) care: Care,
    pub(super) parallel: Option<u32>,
    /// A changed entry, as it applies here, and how many instances it asks for itself.
    pub(super) next: Option<(AppSpec, u32)>,
}

impl App {
    /// The entry that this run was started with, or is to be.
    pub fn entry(&self, run: RunId) -> &AppSpec {
        entry(&self.spec, self.hold.as_deref(), run)
    }

    /// Why nothing else can be done with it now.
    pub(super) fn is_held(&self) -> Option<String> {
        let name = &self.spec.name;
        self.hold.as_deref().map(|hold| match hold.care {
            Care::Rollback => format!(
                "{name}: a reload with --rollback is under way; try again when it is done, or take it back with \
                 `pm3 reload {name} --abort`"
            ),
            Care::Canary(_) => format!(
                "{name}: new processes are held beside the old ones; `pm3 reload {name} --promote` goes on with them, \
                 `pm3 reload {name} --abort` takes them back"
            ),
        })
    }

    /// Why none of these instances can have a new run held, if none can.
    pub(super) fn bars_hold(&self, next: &AppSpec, is_meant: impl Fn(&Instance) -> bool) -> Option<String> {
        let name = &self.spec.name;
        let barred = policy::bars_overlap(&self.spec).or_else(|| policy::bars_overlap(next));
        if self.hold.is_some() {
            return self.is_held();
        }
        if let Some(why) = barred {
            return Some(format!("{name}: {why}, so no new process can be beside an old one; reload it as usual"));
        }
        if self.rolls() {
            return Some(format!("{name}: is being reloaded or restarted; try again when that is done"));
        }
        let runs = self.instances.iter().any(|one| is_meant(one) && may_belong(one));
        (!runs).then(|| format!("{name}: does not run, so there is nothing to hold; `pm3 start {name}` starts it"))
    }

    /// Does what has to do with held runs; true if there is nothing else to do with the app for this order.
    pub(super) fn holds(
        &mut self,
        order: Order,
        shell: Option<&Shell>,
        is_meant: impl Fn(&Instance) -> bool + Copy,
        last_run: RunId,
        pending: &mut Pending,
        turn: &mut Turn<'_>,
    ) -> bool {
        match (order.verb, order.how.care) {
            (Verb::Promote, _) => self.promote(order, pending, turn),
            (Verb::Abort, _) => self.abort(pending, turn),
            (Verb::Reload, Some(care)) => {
                let next = shell.filter(|shell| **shell != self.spec.launch.shell).map(|shell| {
                    let mut next = self.spec.clone();
                    next.launch.shell = shell.clone();
                    (next, self.entry_instances.unwrap_or(self.spec.instances))
                });
                match self.bars_hold(next.as_ref().map_or(&self.spec, |(next, _)| next), is_meant) {
                    Some(why) => pending.fail(why),
                    None => {
                        let wanted = Wanted { care, parallel: order.how.parallel, next };
                        self.hold(wanted, is_meant, last_run, pending, turn.now);
                    }
                }
            }
            (Verb::Restart | Verb::Reload, _) => match self.is_held() {
                Some(why) => pending.fail(why),
                None => return false,
            },
            (Verb::Start | Verb::Stop | Verb::Delete | Verb::Reset | Verb::Watch, _) => return false,
        }
        true
    }

    /// Begins to hold new runs of these instances. The caller has made sure that nothing bars it.
    pub(super) fn hold(
        &mut self,
        wanted: Wanted,
        is_meant: impl Fn(&Instance) -> bool,
        last_run: RunId,
        pending: &mut Pending,
        now: Mono,
    ) {
        let Wanted { care, parallel, next } = wanted;
        let count = match care {
            Care::Rollback => usize::MAX,
            Care::Canary(amount) => usize::try_from(amount.rounded_up(self.spec.instances)).unwrap_or(usize::MAX),
        };
        let mut members = Vec::new();
        for one in self.instances.iter_mut().filter(|one| is_meant(one)) {
            let who = one.who(&self.spec);
            if one.spare {
                // It follows when all is decided, and serves nobody until then.
            } else if !may_belong(one) {
                pending.say(format!("{who}: is {}, and stays as it is", one.status()));
            } else if members.len() < count {
                one.mark(Reason::Operator, Manner::NewFirst, &self.spec, now);
                if let Some(roll) = &mut one.roll {
                    (roll.share, roll.parallel) = (Some(care.share()), parallel);
                }
                members.push(one.id);
                let aim = match care {
                    Care::Rollback => Aim::Whole { after: last_run },
                    Care::Canary(_) => Aim::Held { after: last_run },
                };
                pending.wait(one.id, who, aim);
            }
        }
        let (next, instances) = next.map_or((None, self.spec.instances), |(next, own)| (Some(Box::new(next)), own));
        self.hold = Some(Box::new(Hold { care, next, instances, members, runs: Vec::new(), until: None }));
    }

    /// A run of this instance has been ordered that may be one to be held.
    pub(super) fn note_held(&mut self, at: usize) {
        let second = self.instances.get(at).and_then(|one| one.second.as_deref());
        let run = second.filter(|second| second.share().is_some()).map(|second| second.life.run);
        if let (Some(hold), Some(run)) = (&mut self.hold, run)
            && !hold.runs.contains(&run)
        {
            hold.runs.push(run);
        }
    }

    /// Goes on as far as can be decided without an operator; true if anything changed.
    fn mind_hold(&mut self, turn: &mut Turn<'_>) -> bool {
        let App { spec, hold, instances, .. } = self;
        let Some(hold) = hold.as_deref_mut() else { return false };
        let is_rollback = hold.care == Care::Rollback;
        let (mut failed, mut unsettled) = (None, 0usize);
        hold.until = None;
        hold.members.retain(|id| {
            let Some(one) = instances.iter_mut().find(|one| one.id == *id && one.goal == Goal::Run) else {
                return false;
            };
            if one.spare {
                one.roll.take_if(|roll| roll.share.is_some());
                failed = Some(format!("a spare has taken the place of {}", one.who(spec)));
                return false;
            }
            match one.membership(&hold.runs, spec) {
                Membership::Proving(until) if until > turn.now => {
                    hold.until = Some(hold.until.map_or(until, |other| other.min(until)));
                    unsettled += 1;
                }
                // One whose clients the new run has by now may be as it is until all is decided.
                Membership::Settled | Membership::Proving(_) => {
                    if let Some(why) = one.ailment_of_old().filter(|_| !is_rollback) {
                        failed = Some(format!("the old process of {} is to be replaced: {why}", one.who(spec)));
                    }
                }
                Membership::Underway => unsettled += 1,
                Membership::Left => {
                    one.roll = None;
                    return false;
                }
                Membership::Failed(why) => failed = Some(why.to_string()),
            }
            true
        });
        if failed.is_some() {
            self.take_back(failed, turn);
        } else if hold.members.is_empty() {
            self.hold = None;
        } else if is_rollback && unsettled == 0 {
            self.admit_held(turn);
        } else {
            return false;
        }
        true
    }

    /// The new runs are ended, and the old ones serve as before. `why`: what has failed; None: it was asked for.
    pub(super) fn take_back(&mut self, why: Option<String>, turn: &mut Turn<'_>) {
        let Some(hold) = self.hold.take() else { return };
        let App { spec, instances, .. } = self;
        let mut count = 0u32;
        for one in instances.iter_mut().filter(|one| hold.members.contains(&one.id)) {
            one.roll.take_if(|roll| roll.share.is_some());
            if one.second.as_deref().is_some_and(|second| second.share().is_some()) {
                one.take_second_back(why.is_some(), spec, turn);
                count += 1;
            } else if hold.next.is_some() && one.run().is_some_and(|run| hold.runs.contains(&run)) {
                // It has taken over meanwhile, with settings that do not come into force.
                one.mark(Reason::Changed, policy::manner(spec, &Reason::Changed, false), spec, turn.now);
                count += 1;
            }
        }
        let why = why.unwrap_or_else(|| "as asked".to_owned());
        let what = match count {
            0 => "nothing new is left".to_owned(),
            1 => "1 new process is taken back".to_owned(),
            count => format!("{count} new processes are taken back"),
        };
        tell(spec, format!("{what}, the old ones go on: {why}"), turn);
    }

    /// The new runs take over, and what they were started with comes into force.
    fn admit_held(&mut self, turn: &mut Turn<'_>) {
        let Some(hold) = self.hold.take() else { return };
        // What is wanted of the new runs by now is wanted still; what the change below wants, they are.
        let is_new = |one: &Instance| {
            let is_held = one.second.as_deref().is_some_and(|second| second.share().is_some());
            is_held || one.run().is_some_and(|run| hold.runs.contains(&run))
        };
        let mut wanted: Vec<(InstanceId, Option<Box<Roll>>)> = Vec::new();
        for one in self.instances.iter_mut().filter(|one| is_new(one)) {
            wanted.push((one.id, one.roll.take()));
        }
        if let Some(mut next) = hold.next {
            let shell = std::mem::take(&mut next.launch.shell);
            next.instances = hold.instances;
            let (mut next, chosen) = self.adapted(*next);
            self.entry_instances = chosen;
            if next == self.spec {
                // What a shell has is for the next runs, whenever those come.
                self.spec.launch.shell = shell;
            } else {
                next.launch.shell = shell;
                self.change(next, turn.now);
            }
        }
        let App { spec, instances, .. } = self;
        for one in instances {
            if let Some((_, roll)) = wanted.iter_mut().find(|(id, _)| *id == one.id) {
                one.roll = roll.take();
                if one.successor().is_some() {
                    // Its turn is over when the old run is gone.
                    one.rolling = true;
                    one.admit(spec, turn);
                }
            } else if one.spare && one.goal == Goal::Run && one.is_up_or_coming() && one.roll.is_none() {
                one.mark(Reason::Operator, Manner::OldFirst, spec, turn.now);
            }
        }
    }

    /// An operator wants the held runs to take over, and the other instances to follow. The caller waits for all of them.
    pub(super) fn promote(&mut self, order: Order, pending: &mut Pending, turn: &mut Turn<'_>) {
        let name = &self.spec.name;
        let Some(hold) = self.hold.as_deref().filter(|hold| matches!(hold.care, Care::Canary(_))) else {
            let why = self.is_held().unwrap_or_else(|| self.nothing_held());
            return pending.fail(why);
        };
        let is_settled = |one: &Instance| match one.membership(&hold.runs, &self.spec) {
            Membership::Settled => true,
            Membership::Proving(until) => until <= turn.now,
            Membership::Underway | Membership::Left | Membership::Failed(_) => false,
        };
        if !self.instances.iter().filter(|one| hold.members.contains(&one.id)).all(is_settled) {
            return pending.fail(format!("{name}: its new processes are not ready yet; try again when they are"));
        }
        let runs = hold.runs.clone();
        self.admit_held(turn);
        let App { spec, instances, .. } = self;
        for one in instances.iter_mut().filter(|one| one.goal == Goal::Run && one.is_up_or_coming()) {
            // It has what it was to get.
            if one.run().is_some_and(|run| runs.contains(&run)) {
                continue;
            }
            let reason = one.roll.take().map_or(Reason::Operator, |roll| roll.reason);
            one.mark(reason, policy::asked_manner(spec, order.verb), spec, turn.now);
            one.roll.iter_mut().for_each(|roll| roll.parallel = order.how.parallel);
        }
    }

    /// An operator does not want the held runs.
    pub(super) fn abort(&mut self, pending: &mut Pending, turn: &mut Turn<'_>) {
        let Some(hold) = self.hold.as_deref() else { return pending.fail(self.nothing_held()) };
        for one in self.instances.iter().filter(|one| hold.members.contains(&one.id)) {
            pending.wait(one.id, one.who(&self.spec), Aim::Alone);
        }
        self.take_back(None, turn);
    }

    fn nothing_held(&self) -> String {
        let name = &self.spec.name;
        format!("{name}: nothing is held; `pm3 reload {name} --canary 5%` holds new processes beside the old ones")
    }

    /// What is to be said to who has asked for this, once it is so.
    pub(super) fn told_of_hold(&self, one: &Instance) -> String {
        let (name, all) = (&self.spec.name, self.spec.instances);
        let hold = self.hold.as_deref();
        let count = hold.map_or(0, |hold| hold.members.len());
        let shared = one.second.as_deref().is_some_and(|second| second.life.listens);
        let gets = match hold.map(|hold| hold.care.share()) {
            Some(Share::Percent(percent)) if shared => format!("with {percent} % of new connections"),
            Some(Share::Equal | Share::Whole) if shared => "with a share of new connections as any other".to_owned(),
            Some(Share::Percent(_) | Share::Equal | Share::Whole) | None => {
                "which shares no port of pm3's with it, and gets what it gets".to_owned()
            }
        };
        format!(
            "{name}: {count} of {all} {} a new process beside the old one, {gets}; `pm3 reload {name} --promote` goes on, \
             `pm3 reload {name} --abort` takes it back",
            if all == 1 { "instance has" } else { "instances have" }
        )
    }
}

/// The entry of an app that this run was started with.
pub(super) fn entry<'a>(spec: &'a AppSpec, hold: Option<&'a Hold>, run: RunId) -> &'a AppSpec {
    hold.filter(|hold| hold.runs.contains(&run)).and_then(|hold| hold.next.as_deref()).unwrap_or(spec)
}

/// How far a member of a hold is.
enum Membership {
    /// Its new run is held, or has taken over already.
    Settled,
    Underway,
    /// Its new run has taken over before it had proven itself, which it will have then.
    Proving(Mono),
    /// It is over, and its new run was never begun.
    Left,
    /// There is no new run, and none comes; for this reason.
    Failed(Reason),
}

impl Instance {
    /// There is to be a new run in place of the old one, beside which one is held already. It comes when it is decided about
    /// that; where the held one stays, there is nothing left to do. True if nobody knew.
    pub(super) fn renew_after_hold(&mut self, reason: Reason, app: &AppSpec, now: Mono) -> bool {
        let is_known = |roll: &Roll| roll.reason.is_ailment() || !reason.is_ailment();
        let is_new = !self.roll.as_deref().is_some_and(is_known);
        if is_new {
            let manner = policy::manner(app, &reason, self.listens());
            self.mark(reason, manner, app, now);
        } else {
            self.insist(reason);
        }
        is_new
    }

    /// A new run of it is to be held, and has not begun.
    pub(super) fn waits_to_be_held(&self) -> bool {
        self.roll.as_deref().is_some_and(|roll| roll.share.is_some())
    }

    /// Why the old run, beside which one is held, is to be replaced without delay.
    pub(super) fn ailment_of_old(&self) -> Option<&Reason> {
        let reason = self.roll.as_deref().map(|roll| &roll.reason);
        reason.filter(|reason| self.held().is_some() && reason.is_ailment())
    }

    fn membership(&self, runs: &[RunId], app: &AppSpec) -> Membership {
        let has_taken_over = self.run().is_some_and(|run| runs.contains(&run)) && self.is_up_or_coming();
        match self.second.as_deref().map(|second| &second.part) {
            Some(Part::Held(_)) => return Membership::Settled,
            Some(Part::Trial { share: Some(_), .. }) => return Membership::Underway,
            Some(Part::Ailing(why)) => return Membership::Failed(why.clone()),
            Some(Part::Trial { share: None, .. } | Part::Leaving) | None => {}
        }
        if has_taken_over {
            let on_trial = self.life().filter(|life| !life.listens && app.ready_within().is_none());
            return match on_trial {
                _ if !self.is_online() => Membership::Underway,
                Some(life) => Membership::Proving(life.since.after(policy::trial(app).span())),
                None => Membership::Settled,
            };
        }
        match self.roll.as_deref() {
            Some(roll) if roll.share.is_some() => {
                if self.is_over() {
                    Membership::Left
                } else {
                    Membership::Underway
                }
            }
            Some(_) | None => Membership::Failed(self.reason.as_deref().cloned().unwrap_or(Reason::Operator)),
        }
    }
}

impl Second {
    /// What it gets, or is to get, of new connections while it is held; None: it is not to be held.
    pub(super) fn share(&self) -> Option<Share> {
        match self.part {
            Part::Trial { share, .. } => share,
            Part::Held(share) => Some(share),
            Part::Ailing(_) => Some(Share::Whole),
            Part::Leaving => None,
        }
    }

    /// It is held, with this share.
    pub fn held(&self) -> Option<Share> {
        match self.part {
            Part::Held(share) => Some(share),
            Part::Trial { .. } | Part::Ailing(_) | Part::Leaving => None,
        }
    }
}

/// An instance of which a new run can be held.
fn may_belong(one: &Instance) -> bool {
    one.goal == Goal::Run && one.is_up_or_coming() && !one.spare
}

fn tell(app: &AppSpec, text: String, turn: &mut Turn<'_>) {
    turn.out.push(Effect::Note(Note { who: app.name.clone(), id: None, what: What::Pm3(text.into()) }));
}

impl Supervisor {
    /// Decides about held runs where no operator has to; true if anything changed.
    pub(super) fn mind_holds(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        if self.apps.iter().all(|app| app.hold.is_none()) {
            return false;
        }
        let mut changed = false;
        self.each_app(now, out, |app, turn| changed |= app.mind_hold(turn));
        if changed {
            self.fit(now, out);
            self.ask_missing_schedules(out);
        }
        changed
    }

    /// An instance, and the entry that this run of it has.
    pub fn of_run(&self, run: RunId) -> Option<(&AppSpec, &Instance)> {
        self.apps
            .iter()
            .find_map(|app| app.instances.iter().find(|one| one.has_run(run)).map(|one| (app.entry(run), one)))
    }
}
