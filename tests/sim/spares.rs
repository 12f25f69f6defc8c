//! Worlds whose apps have spares. Here it is not the whole supervisor that is judged, which the oracle does where there are
//! none, but what must be true of spares whatever happens: who serves, who is held, who takes over from whom, and that all
//! of it comes to rest.

use std::collections::{BTreeMap, BTreeSet};

use pm3::supervisor::Supervisor;
use pm3::supervisor::app::App;
use pm3::supervisor::event::{ClientId, Effect, End, Event, InstanceId, Mono, RunId, Share, Sig, Wish};
use pm3::supervisor::instance::{Goal, Instance, Next, State};
use pm3::supervisor::life::Phase;
use pm3::supervisor::reload::Second;
use pm3::supervisor::spec::{AppSpec, Restart};
use pm3::supervisor::station::Station;

use crate::dice::Dice;
use crate::holds::Holds;
use crate::model::is_final;
use crate::oracle::{Verdict, ensure};
use crate::world::{Trace, World};

/// Always the same worlds.
const SEEDS: u64 = 2_000;

/// A mutant has to be caught by one of the first that many.
const MUTANT_SEEDS: u64 = 300;

/// What is known of a run.
#[derive(Default)]
struct Run {
    instance: InstanceId,
    /// It is held where it binds its port.
    held: bool,
    /// It has been let go: what was on its way to be told says nothing any more.
    free: bool,
    /// pm3 wants it to end.
    asked: bool,
    ended: bool,
}

/// A mistake that somebody could make in the supervisor.
#[derive(Clone, Copy, Debug)]
enum Mutant {
    DismissesNobody,
    DismissesTooLate,
    TakesOverNever,
    TakesOverFromItself,
}

#[derive(Default)]
pub(crate) struct Watch {
    runs: BTreeMap<RunId, Run>,
    asks: BTreeSet<ClientId>,
    pub(crate) exited: bool,
    mutant: Option<Mutant>,
    /// Somebody holds new runs there, too, which this judges.
    pub(crate) holds: Option<Holds>,
}

impl Watch {
    pub(crate) fn of_holds(holds: Holds) -> Watch {
        Watch { holds: Some(holds), ..Watch::default() }
    }

    /// What a mutant hears instead.
    pub(crate) fn mishear(&self, event: Event) -> Event {
        match &self.holds {
            Some(holds) => holds.mishear(event),
            None => event,
        }
    }

    /// Makes the mutant's mistake.
    pub(crate) fn distort(&self, effects: &mut Vec<Effect>, pm3: &Supervisor) {
        self.holds.iter().for_each(|holds| holds.distort(effects, pm3));
        let is_dismissal = |one: &Effect| matches!(one, Effect::Dismiss { .. });
        match self.mutant {
            None => {}
            Some(Mutant::DismissesNobody) => effects.retain(|one| !is_dismissal(one)),
            Some(Mutant::DismissesTooLate) => effects.sort_by_key(is_dismissal),
            Some(Mutant::TakesOverNever) => effects.retain(|one| !matches!(one, Effect::TakeOver { .. })),
            Some(Mutant::TakesOverFromItself) => {
                for one in effects {
                    if let Effect::TakeOver { run, from, .. } = one {
                        *from = self.runs.get(run).map_or(*from, |run| run.instance);
                    }
                }
            }
        }
    }

    /// What happened, what the supervisor wants done, and what it thinks afterwards.
    pub(crate) fn judge(&mut self, now: Mono, event: &Event, effects: &[Effect], pm3: &Supervisor) -> Verdict {
        ensure!(!self.exited || effects.is_empty(), "something comes after Exit: {effects:?}");
        if self.exited {
            return Ok(());
        }
        self.hear(event);
        let by_client = matches!(event, Event::Request { wish: Wish::Signal { .. }, .. });
        for effect in effects {
            self.allow(effect, by_client, pm3)?;
        }
        if self.exited {
            return Ok(());
        }
        let deadline = pm3.deadline();
        ensure!(deadline.is_none_or(|at| at > now), "the deadline {deadline:?} is not in the future");
        pm3.apps().iter().try_for_each(|app| self.check(app, pm3.is_ending()))?;
        self.holds.iter_mut().try_for_each(|holds| holds.judge(event, effects, pm3))
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::StandsBy { run } => {
                if let Some(run) = self.runs.get_mut(run).filter(|run| !run.ended && !run.free) {
                    run.held = true;
                }
            }
            Event::Exited { run, .. } | Event::SpawnFailed { run, .. } => {
                if let Some(run) = self.runs.get_mut(run) {
                    (run.ended, run.held) = (true, false);
                }
            }
            Event::Request { client, .. } => drop(self.asks.insert(*client)),
            Event::ClientGone { client } => drop(self.asks.remove(client)),
            _ => {}
        }
    }

    fn allow(&mut self, effect: &Effect, by_client: bool, pm3: &Supervisor) -> Verdict {
        match effect {
            Effect::Spawn { run, instance, .. } => {
                ensure!(self.runs.keys().all(|known| known < run), "{run:?} was used before");
                self.runs.insert(*run, Run { instance: *instance, ..Run::default() });
            }
            Effect::Drain { run } => self.runs.entry(*run).or_default().asked = true,
            Effect::Signal { run, sig, .. } if !by_client => {
                let known = self.runs.entry(*run).or_default();
                ensure!(!known.held || *sig == Sig::KILL, "{sig} to {run:?}, which is held and cannot hear it");
                // What a dead one has left is asked, too.
                known.asked |= !known.ended;
                if *sig == Sig::KILL {
                    (known.held, known.free) = (false, true);
                }
            }
            Effect::Dismiss { run } => {
                let known = self.runs.entry(*run).or_default();
                // One that was asked to end may come to be held afterwards, and at several ports.
                ensure!(known.held || known.asked, "{run:?} is dismissed, and is not held");
                (known.held, known.free) = (false, true);
            }
            Effect::TakeOver { run, from, half } => {
                let of_dead = || self.runs.values().filter(|run| run.instance == *from);
                ensure!(of_dead().any(|run| run.ended && !run.asked), "{run:?} takes over, and {from} did not die");
                ensure!(of_dead().all(|run| run.ended || run.asked), "{run:?} takes over from {from}, which lives");
                let fits = pm3.instance(*from).is_some_and(|(_, dead)| dead.half == *half && dead.spare);
                ensure!(fits, "{run:?} takes over from {from}, which does not stand back");
                let known = self.runs.entry(*run).or_default();
                ensure!(known.held && !known.asked, "{run:?} takes over, and does not stand by");
                ensure!(known.instance != *from, "{run:?} takes over from itself");
                (known.held, known.free) = (false, true);
                let serves = pm3.instance(known.instance).is_some_and(|(_, one)| !one.spare);
                ensure!(serves, "{run:?} takes over, and is a spare");
            }
            Effect::Reply { client, .. } => {
                ensure!(self.asks.remove(client), "a reply to {client:?}, who waits for none")
            }
            Effect::Exit { .. } => self.exited = true,
            _ => {}
        }
        Ok(())
    }

    fn check(&self, app: &App, ends: bool) -> Verdict {
        let (name, spec) = (&app.spec.name, &app.spec);
        let kept = |spare| app.instances.iter().filter(|one| one.goal != Goal::Remove && one.spare == spare).count();
        let wanted = (spec.instances.max(1) as usize, spec.spares() as usize);
        ensure!(
            app.gone || (kept(false), kept(true)) == wanted,
            "{name}: {}, {} of {wanted:?}",
            kept(false),
            kept(true)
        );
        for one in &app.instances {
            let who = one.who(spec);
            let phase = one.life().map(|life| life.phase);
            let stands = matches!(phase, Some(Phase::Standby { .. }));
            let held = one.run().and_then(|run| self.runs.get(&run)).is_some_and(|run| run.held);
            ensure!(stands == held, "{who}: {phase:?}, and its program is held: {held}");
            ensure!(!stands || one.spare, "{who} stands by, and is no spare");
            let station = one.station(one.half);
            let is_open = matches!(station, Station::Serving | Station::Proving | Station::Coming);
            ensure!(!one.spare || !is_open && !one.is_online(), "{who} is a spare, and {station:?}");
            ensure!(!one.spare || one.successor().is_none(), "{who} is a spare with two runs");
        }
        let dead = app.instances.iter().find(|one| is_missed(one, spec));
        let spare = app.instances.iter().find(|one| one.is_standing_by());
        let pair = dead.zip(spare).filter(|_| !ends);
        ensure!(pair.is_none(), "{name}: {pair:?} do not change places");
        let serves = |one: &Instance| !one.spare && one.goal == Goal::Run && !one.is_over();
        let idles = |one: &&Instance| one.spare && one.goal == Goal::Run && !one.is_over();
        let useless = app.instances.iter().find(idles).filter(|_| !ends && !app.instances.iter().any(serves));
        ensure!(useless.is_none(), "{name}: {useless:?} stands by for nobody");
        Ok(())
    }

    /// What keeps the goal from being reached, now that nothing goes wrong any more.
    pub(crate) fn unreached(&self, pm3: &Supervisor) -> Verdict {
        let mut waits = false;
        for (app, one) in pm3.instances() {
            let (who, status) = (one.who(app), one.status());
            let arrived = ["online", "standby", "stopped", "errored", "finished", "waiting"].contains(&status);
            let app_waits = pm3.instances().any(|(other, one)| other.name == app.name && one.status() == "waiting");
            let stays = |second: &Second| match second.held() {
                Some(Share::Equal | Share::Percent(_)) => true,
                // Who belongs to it waits for an app that does not come.
                Some(Share::Whole) => app_waits,
                None => false,
            };
            let is_alone = one.second.as_deref().is_none_or(stays);
            ensure!(arrived && is_alone, "{who} is still {status}, with {:?}", one.second);
            ensure!(!one.spare || one.goal != Goal::Idle || one.is_over(), "{who} is {status}, and is not to run");
            waits |= status == "waiting";
        }
        // Who waits for an app that does not come may wait on.
        ensure!(waits || self.asks.is_empty(), "no answer to {:?}", self.asks);
        Ok(())
    }
}

/// It is to run, and its last run ended by itself; told by what is written of it, and not by the supervisor's own word.
fn is_missed(one: &Instance, app: &AppSpec) -> bool {
    let is_passing = |end: End| !is_final(app, end);
    let died = match &one.state {
        State::Alive(life) => match life.phase {
            Phase::Clearing { next: Next::Judge { ended, .. }, .. } => is_passing(ended.end),
            _ => false,
        },
        State::Settling { ended, .. } => is_passing(ended.end),
        State::Backoff { .. } => true,
        State::Errored { .. } => !one.is_held_by_another(),
        State::Waiting { .. } | State::Stopped | State::Finished { .. } => false,
    };
    died && !one.spare && one.goal == Goal::Run && app.restart.when != Restart::Never
}

/// What was wrong in this world; a panic counts.
fn verdict(seed: u64, mutant: Option<Mutant>, trace: Option<Trace>) -> Result<u32, String> {
    let watch = Watch { mutant, ..Watch::default() };
    let play = || World::with_spares(Dice::new(seed), watch, trace).run();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).unwrap_or_else(|_| Err("panicked".into()))
}

/// Plays worlds of a kind, always the same ones: as many as `PM3_SIM_<KIND>` says; or tells the story of the one that
/// `PM3_SIM_<KIND>_SEED` names.
pub(crate) fn check(kind: &str, seeds: u64, verdict: impl Fn(u64, Option<Trace>) -> Result<u32, String>) {
    if let Some(seed) = crate::env(&format!("PM3_SIM_{kind}_SEED")) {
        let trace = Trace::default();
        let verdict = verdict(seed, Some(trace.clone()));
        println!("{}\nseed {seed}: {verdict:?}", trace.take().join("\n"));
        return;
    }
    let seeds = 0..crate::env(&format!("PM3_SIM_{kind}")).unwrap_or(seeds);
    let wrong = seeds.filter_map(|seed| Some(format!("seed {seed}: {}", verdict(seed, None).err()?)));
    let wrong: Vec<String> = wrong.take(20).collect();
    assert!(
        wrong.is_empty(),
        "{}\nagain: PM3_SIM_{kind}_SEED=<seed> cargo test --test sim {} -- --nocapture",
        wrong.join("\n"),
        kind.to_lowercase(),
    );
}

#[test]
fn spares_in_all_worlds() {
    check("SPARES", SEEDS, |seed, trace| verdict(seed, None, trace));
}

#[test]
fn mistakes_with_spares_are_noticed() {
    for mutant in
        [Mutant::DismissesNobody, Mutant::DismissesTooLate, Mutant::TakesOverNever, Mutant::TakesOverFromItself]
    {
        let caught = (0..MUTANT_SEEDS).any(|seed| verdict(seed, Some(mutant), None).is_err());
        assert!(caught, "nobody notices {mutant:?}");
    }
}
