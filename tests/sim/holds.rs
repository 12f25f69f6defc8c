//! Worlds in which new runs are held: reloads that are rolled back as a whole, and canaries that operators promote or abort.
//! As with spares, it is not the whole supervisor that is judged here, but what must be true whatever happens: nobody is
//! asked to end before it is decided, all take over or none, whoever asked hears how it went, and somebody always serves.
//! What is a new run, and what an old one, is told by what was ordered, and not by what the supervisor notes of its holds.

use std::collections::{BTreeMap, BTreeSet};

use pm3::supervisor::Supervisor;
use pm3::supervisor::app::App;
use pm3::supervisor::event::{Amount, Care, ClientId, Effect, Event, InstanceId, Outcome, Rollout, RunId, Verb, Wish};
use pm3::supervisor::instance::{Goal, Instance};
use pm3::supervisor::reload::Part;
use pm3::supervisor::station::Station;

use crate::dice::Dice;
use crate::oracle::{Verdict, ensure};
use crate::spares::Watch;
use crate::world::{Trace, World};

/// Always the same worlds.
const SEEDS: u64 = 1_500;

/// A mutant has to be caught by one of the first that many.
const MUTANT_SEEDS: u64 = 300;

/// A mistake that somebody could make in the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A reload with care is a reload.
    Careless,
    /// A canary that is held is promoted.
    EndsTheOld,
    /// One of those that are taken back goes on.
    ForgetsOne,
    PromotesForAbort,
    /// Who asked for care hears that all is well.
    HidesFailures,
}

/// An instance of which a new run is held, or is to be.
#[derive(Clone, Debug)]
struct Member {
    /// Its run, if that is an old one.
    old: Option<RunId>,
    /// The one that is held or is to be.
    new: Option<RunId>,
    is_held: bool,
}

/// What is known of an app whose new runs are held.
#[derive(Debug)]
struct Known {
    care: Care,
    members: BTreeMap<InstanceId, Member>,
}

/// Who asked for care, and for which instances new runs were then wanted, after which run.
struct Asked {
    after: RunId,
    members: Vec<InstanceId>,
}

#[derive(Default)]
pub(crate) struct Holds {
    pub(crate) mutant: Option<Mutant>,
    known: BTreeMap<Box<str>, Known>,
    asked: BTreeMap<ClientId, Asked>,
    /// All runs that were begun to be held.
    new: BTreeSet<RunId>,
    last_run: RunId,
    /// The newest run of each instance.
    begun: BTreeMap<InstanceId, RunId>,
    /// Those that pm3 wants to end, and those that have ended.
    going: BTreeSet<RunId>,
}

impl Holds {
    /// Draws care for what is to be reloaded, and now and then a decision.
    pub(crate) fn draw(mut dice: Dice, verb: &mut Verb, how: &mut Rollout) {
        if dice.chance(35) {
            *verb = dice.pick(&[Verb::Promote, Verb::Abort]);
        } else if dice.chance(70) {
            *verb = Verb::Reload;
        }
        how.care = Holds::care(dice).filter(|_| *verb == Verb::Reload);
    }

    /// Mostly some.
    pub(crate) fn care(mut dice: Dice) -> Option<Care> {
        let canary = |amount| Some(Care::Canary(amount));
        dice.pick(&[
            None,
            Some(Care::Rollback),
            Some(Care::Rollback),
            canary(Amount::Count(1)),
            canary(Amount::Count(2)),
            canary(Amount::Percent(5)),
            canary(Amount::Percent(60)),
        ])
    }

    /// What a mutant hears instead.
    pub(crate) fn mishear(&self, mut event: Event) -> Event {
        if let Event::Request { wish: Wish::Operate { verb, how, .. }, .. } = &mut event {
            match self.mutant {
                Some(Mutant::Careless) => how.care = None,
                Some(Mutant::PromotesForAbort) if *verb == Verb::Abort => *verb = Verb::Promote,
                _ => {}
            }
        }
        event
    }

    /// Makes the mutant's mistake.
    pub(crate) fn distort(&self, effects: &mut Vec<Effect>, pm3: &Supervisor) {
        match self.mutant {
            Some(Mutant::EndsTheOld) => {
                let held = pm3.instances().find(|(_, one)| one.held().is_some());
                let old = held.and_then(|(_, one)| one.run());
                effects.extend(old.filter(|run| !self.going.contains(run)).map(|run| Effect::Drain { run }));
            }
            Some(Mutant::ForgetsOne) => {
                let ends_new = |one: &Effect| matches!(asks(one), Some(run) if self.new.contains(&run));
                if let Some(at) = effects.iter().position(ends_new) {
                    effects.remove(at);
                }
            }
            Some(Mutant::HidesFailures) => {
                for effect in effects {
                    if let Effect::Reply { outcome, .. } = effect {
                        outcome.failed.clear();
                    }
                }
            }
            Some(Mutant::Careless | Mutant::PromotesForAbort) | None => {}
        }
    }

    pub(crate) fn judge(&mut self, event: &Event, effects: &[Effect], pm3: &Supervisor) -> Verdict {
        let before = std::mem::take(&mut self.known);
        let by_client: Vec<RunId> = match event {
            Event::Request { wish: Wish::Signal { targets, .. }, .. } => {
                let ids = pm3.resolve_all(targets, &mut Outcome::default());
                ids.iter().filter_map(|id| pm3.instance(*id)?.1.run()).collect()
            }
            _ => Vec::new(),
        };
        if let Event::Exited { run, .. } | Event::SpawnFailed { run, .. } = event {
            self.going.insert(*run);
        }
        let last_run = self.last_run;
        let mut asked = BTreeSet::new();
        for effect in effects {
            if let Effect::Spawn { run, instance, .. } = effect {
                self.last_run = *run;
                self.begun.insert(*instance, *run);
                let second = pm3.instance(*instance).and_then(|(_, one)| one.second.as_deref());
                if second.is_some_and(|second| second.life.run == *run && is_to_be_held(&second.part)) {
                    self.new.insert(*run);
                }
            }
            if let Some(run) = asks(effect).filter(|run| !by_client.contains(run) && !self.going.contains(run)) {
                asked.insert(run);
            }
        }
        self.going.extend(&asked);
        if pm3.is_ending() {
            return Ok(());
        }
        for app in pm3.apps() {
            self.check(app)?;
            match (before.get(&app.spec.name), &app.hold) {
                (Some(known), Some(_)) => undecided(known, app, &asked)?,
                (Some(known), None) => self.decided(known, app, event)?,
                (None, _) => {}
            }
            if let Some(hold) = &app.hold {
                let members = app.instances.iter().filter(|one| is_member(one)).map(|one| (one.id, self.member(one)));
                let known = Known { care: hold.care, members: members.collect() };
                self.known.insert(app.spec.name.clone(), known);
            }
        }
        self.hear_asked(event, &before, last_run, effects, pm3)?;
        effects.iter().try_for_each(|effect| self.check_reply(effect, pm3))
    }

    fn member(&self, one: &Instance) -> Member {
        let second = one.second.as_deref().filter(|second| is_to_be_held(&second.part)).map(|second| second.life.run);
        let own = one.run().filter(|_| one.is_up_or_coming());
        Member {
            old: own.filter(|run| !self.new.contains(run)),
            new: second.or(own.filter(|run| self.new.contains(run))),
            is_held: one.held().is_some(),
        }
    }

    /// What must be so of an app after every step.
    fn check(&self, app: &App) -> Verdict {
        let name = &app.spec.name;
        let is_held = app.hold.is_some();
        for one in &app.instances {
            let who = one.who(&app.spec);
            let part = one.second.as_deref().map(|second| &second.part);
            ensure!(is_held || !is_member(one), "{who}: a new run is to be held, and nothing is held of {name}");
            ensure!(!matches!(part, Some(Part::Ailing(_))), "{who}: its new run is not well, and nothing follows");
            ensure!(one.held().is_none() || one.is_online(), "{who}: a new run is held beside none");
            if let Some(held) = one.held().filter(|_| one.is_online()) {
                let (old, new) = (one.station(one.half), one.station(one.half.other()));
                let is_rollback = app.hold.as_deref().is_some_and(|hold| hold.care == Care::Rollback);
                let fits = match new {
                    Station::Serving => (old == Station::Aside) == is_rollback,
                    Station::Sampling(_) => !is_rollback && matches!(old, Station::Serving | Station::Proving),
                    Station::Proving | Station::Coming | Station::Aside | Station::Gone => false,
                };
                ensure!(fits, "{who}: {:?} is held: {new:?} beside {old:?}", held.life.run);
            }
        }
        Ok(())
    }

    /// It has been decided in this step: all take over, or none.
    fn decided(&self, known: &Known, app: &App, event: &Event) -> Verdict {
        let name = &app.spec.name;
        let (mut admitted, mut left_behind) = (Vec::new(), Vec::new());
        for (id, member) in &known.members {
            let Some(one) = app.instances.iter().find(|one| one.id == *id) else { continue };
            if one.goal != Goal::Run || one.spare || one.is_over() {
                continue;
            }
            let goes_on = |run: Option<RunId>| run.filter(|run| one.has_run(*run) && !self.going.contains(run));
            let (old, new) = (goes_on(member.old), goes_on(member.new));
            ensure!(old.is_none() || new.is_none(), "{name}: {id} is decided about, and both {old:?}, {new:?} go on");
            let who = one.who(&app.spec);
            // Whose old run has ended by itself has the new one, whatever is decided.
            match (member.old, new) {
                (Some(_), Some(_)) if member.is_held || one.is_online() => admitted.push(who),
                (Some(_), Some(new)) => return Err(format!("{who}: {new:?} takes over, and was not ready")),
                (Some(_), None) => left_behind.push(who),
                (None, _) => {}
            }
        }
        let some_stay = !admitted.is_empty() && !left_behind.is_empty();
        ensure!(!some_stay, "{name}: {admitted:?} take over, and {left_behind:?} do not");
        let decision = match event {
            Event::Request { wish: Wish::Operate { verb, .. }, .. } => Some(*verb),
            _ => None,
        };
        let is_canary = known.care != Care::Rollback;
        ensure!(
            admitted.is_empty() || !is_canary || decision == Some(Verb::Promote),
            "{name}: {admitted:?} take over, and nobody has said so"
        );
        ensure!(
            decision != Some(Verb::Abort) || admitted.is_empty(),
            "{name}: {admitted:?} take over, as was not asked"
        );
        Ok(())
    }

    /// Somebody has asked for care: something is held then, or is to be, or why not is said.
    fn hear_asked(
        &mut self,
        event: &Event,
        before: &BTreeMap<Box<str>, Known>,
        after: RunId,
        effects: &[Effect],
        pm3: &Supervisor,
    ) -> Verdict {
        match event {
            Event::ClientGone { client } => drop(self.asked.remove(client)),
            Event::Request { client, wish: Wish::Operate { targets, how, .. }, .. } if how.care.is_some() => {
                let mut members = Vec::new();
                for id in pm3.resolve_all(targets, &mut Outcome::default()) {
                    let Some(app) = pm3.apps().iter().find(|app| app.instances.iter().any(|one| one.id == id)) else {
                        continue;
                    };
                    let name = &app.spec.name;
                    let begins = app.hold.is_some() && !before.contains_key(name);
                    let wanted = self.known.get(name).filter(|_| begins);
                    members.extend(wanted.filter(|known| known.members.contains_key(&id)).map(|_| id));
                    // What is said of one may come when the others are done.
                    let is_told = |one: &Effect| matches!(one, Effect::Reply { client: to, outcome } if to == client && !outcome.failed.is_empty());
                    let waits =
                        !effects.iter().any(|one| matches!(one, Effect::Reply { client: to, .. } if to == client));
                    ensure!(
                        app.hold.is_some() || waits || effects.iter().any(is_told),
                        "{name}: nothing is held, and nobody is told"
                    );
                    let is_alone = app.instances.iter().all(|one| one.goal == Goal::Run);
                    ensure!(
                        app.hold.is_some() || !waits || !is_alone || targets.len() != 1 || **name != *targets[0],
                        "{name}: something else becomes of it, and nobody is told"
                    );
                }
                self.asked.insert(*client, Asked { after, members });
            }
            _ => {}
        }
        Ok(())
    }

    /// Who hears that all is well has what was asked for.
    fn check_reply(&mut self, effect: &Effect, pm3: &Supervisor) -> Verdict {
        let Effect::Reply { client, outcome } = effect else { return Ok(()) };
        let Some(Asked { after, members }) = self.asked.remove(client) else { return Ok(()) };
        for id in members.iter().filter(|_| outcome.failed.is_empty()) {
            let Some((app, one)) = pm3.instance(*id) else { continue };
            // It may be gone since.
            ensure!(
                self.begun.get(id) > Some(&after),
                "{}: all is well, it is said, and it has no new run",
                one.who(app)
            );
        }
        Ok(())
    }
}

/// Until it is decided, neither the old run of a member is asked to end nor the new one.
fn undecided(known: &Known, app: &App, asked: &BTreeSet<RunId>) -> Verdict {
    for (id, member) in &known.members {
        let Some(one) = app.instances.iter().find(|one| one.id == *id && one.goal == Goal::Run) else { continue };
        let ended = [member.old, member.new].into_iter().flatten().find(|run| asked.contains(run));
        ensure!(ended.is_none(), "{}: {ended:?} is asked to end, and nothing is decided", one.who(&app.spec));
    }
    Ok(())
}

/// The run that this asks to end.
fn asks(effect: &Effect) -> Option<RunId> {
    match effect {
        Effect::Signal { run, .. } | Effect::Drain { run } => Some(*run),
        _ => None,
    }
}

fn is_to_be_held(part: &Part) -> bool {
    match part {
        Part::Trial { share, .. } => share.is_some(),
        Part::Held(_) | Part::Ailing(_) => true,
        Part::Leaving => false,
    }
}

/// A new run of it is held, or is to be.
fn is_member(one: &Instance) -> bool {
    let is_wanted = one.roll.as_deref().is_some_and(|roll| roll.share.is_some());
    is_wanted || one.second.as_deref().is_some_and(|second| is_to_be_held(&second.part))
}

/// What was wrong in this world; a panic counts.
fn verdict(seed: u64, mutant: Option<Mutant>, trace: Option<Trace>) -> Result<u32, String> {
    let holds = Holds { mutant, ..Holds::default() };
    let watch = Watch::of_holds(holds);
    let play = || World::with_spares(Dice::new(seed), watch, trace).run();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).unwrap_or_else(|_| Err("panicked".into()))
}

#[test]
fn holds_in_all_worlds() {
    crate::spares::check("HOLDS", SEEDS, |seed, trace| verdict(seed, None, trace));
}

#[test]
fn mistakes_with_holds_are_noticed() {
    for mutant in
        [Mutant::Careless, Mutant::EndsTheOld, Mutant::ForgetsOne, Mutant::PromotesForAbort, Mutant::HidesFailures]
    {
        let caught = (0..MUTANT_SEEDS).any(|seed| verdict(seed, Some(mutant), None).is_err());
        assert!(caught, "nobody notices {mutant:?}");
    }
}

/// Worlds in which nothing much is held would prove nothing.
#[test]
fn much_is_held_and_decided() {
    let unseen = crate::unseen(EVENTFUL, MUTANT_SEEDS, |seed| {
        let trace = Trace::default();
        let _ = verdict(seed, None, Some(trace.clone()));
        trace.take()
    });
    assert!(unseen.is_empty(), "never seen in {MUTANT_SEEDS} worlds: {unseen:?}");
}

/// Words of the stories that `much_is_held_and_decided` looks for.
const EVENTFUL: &[&str] = &[
    "serves and is held beside pid",
    "is taken back, the old ones go on: as asked",
    "the old ones go on: reload failed",
    "is to be replaced: ",
    "nothing new is left, the old ones go on",
    "instances have a new process beside the old one, with",
    "with a share of new connections as any other",
    "`pm3 reload a --promote` goes on with them",
    "nothing is held; ",
    "are not ready yet; try again when they are",
    "does not run, so there is nothing to hold",
    "so no new process can be beside an old one",
    "a reload with --rollback is under way",
    "it owns port 3000, so no new process can be beside it",
    "its new process takes over at once",
];
