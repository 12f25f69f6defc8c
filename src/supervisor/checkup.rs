//! Whether runs are well: probes that are ordered (`Effect::Probe`) and judged here, and heartbeats that have to come.
//! A run that is not well is replaced as by a reload; one that is well again before its turn comes is left alone. What is
//! remembered of a run is gone with it, and who is looked after follows from the state alone, so it cannot be forgotten at
//! a transition.
//!
//! Words and defaults are Docker's (HEALTHCHECK): the first probe comes one interval after the start, failures within
//! `start_period` do not count unless a probe has succeeded, and so many in a row as `retries` says are too many. But where
//! the first probe is what makes the run ready, it comes at once, and others follow in steps that grow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::app::App;
use super::event::{Effect, Millis, Mono, Reason, RunId, What};
use super::hold;
use super::instance::{Instance, Turn};
use super::life::{Life, Phase};
use super::policy;
use super::reload::Part;
use super::spec::{AppSpec, Health, Ready};

/// What probes have said of a run so far. `Display` is Docker's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Not enough yet.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl Condition {
    pub fn word(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Healthy => "healthy",
            Condition::Unhealthy => "unhealthy",
        }
    }
}

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    Well,
    /// It is not well, for this reason.
    Ill(Box<str>),
    /// There was no probe, for this reason, which says nothing of the run.
    Unknown(Box<str>),
}

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkup {
    pub run: RunId,
    pub condition: Condition,
    /// Probes that failed in a row, as far as they count.
    pub failed: u32,
    /// Why the last one failed; empty where it did not.
    pub why: Box<str>,
    next: Next,
    /// The last wait, of a run that is not ready yet.
    wait: Millis,
    /// When its next heartbeat has to have come; None: none is waited for.
    silent_at: Option<Mono>,
    /// That moment was missed by pm3 itself, so the run has another one.
    spared: bool,
}

/// The next probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Next {
    #[default]
    Unknown,
    At(Mono),
    /// It is under way.
    Asked,
}

/// Where pm3 is so late to look for a heartbeat, it was away itself, as in a container that was paused: so were its apps, or
/// what they have said is not read yet.
const AWAY: Duration = Duration::from_millis(100);

/// The first wait between two probes of a run that is not ready yet; each is twice the last one.
const FIRST_WAIT: Millis = Millis(100);

impl Checkup {
    pub(super) fn deadline(&self) -> Option<Mono> {
        let next = match self.next {
            Next::At(at) => Some(at),
            Next::Unknown | Next::Asked => None,
        };
        next.into_iter().chain(self.silent_at).min()
    }

    /// Nothing is known of the run, but whether a probe is out.
    fn forgotten(&self) -> Checkup {
        let next = if self.next == Next::Asked { Next::Asked } else { Next::Unknown };
        Checkup { run: self.run, next, ..Checkup::default() }
    }

    /// From one probe, or the start, to the next one.
    fn pause(&mut self, health: &Health, life: &Life, now: Mono) -> Millis {
        if !is_online(life) {
            self.wait = Millis(self.wait.0.saturating_mul(2)).clamp(FIRST_WAIT, health.start_interval.max(FIRST_WAIT));
            self.wait
        } else if self.is_excused(health, life, now) {
            health.start_interval
        } else {
            health.interval
        }
    }

    /// A failure does not count yet.
    fn is_excused(&self, health: &Health, life: &Life, now: Mono) -> bool {
        let in_time = now < life.since.after(health.start_period.span());
        !is_online(life) || self.condition == Condition::Starting && in_time
    }

    /// Orders a probe whose time has come.
    fn mind_probes(&mut self, health: &Health, life: &Life, now: Mono, out: &mut Vec<Effect>) {
        if self.next == Next::Unknown {
            let first = if is_online(life) { self.pause(health, life, now) } else { Millis::ZERO };
            self.next = Next::At(life.since.after(first.span()));
        }
        if matches!(self.next, Next::At(at) if at <= now) {
            self.next = Next::Asked;
            out.push(Effect::Probe { run: self.run });
        }
    }

    /// True: it has been silent for too long.
    fn mind_heartbeats(&mut self, watchdog: Option<Millis>, life: &Life, now: Mono) -> bool {
        let next = watchdog.filter(|_| is_online(life)).map(|span| now.after(span.span()));
        let late = self.silent_at.filter(|at| next.is_some() && *at <= now);
        let is_ours = late.is_some_and(|at| now.since(at) >= AWAY) && !self.spared;
        let is_late = late.is_some() && !is_ours;
        self.spared = next.is_some() && (is_ours || self.spared && late.is_none());
        self.silent_at = self.silent_at.filter(|_| !is_ours);
        self.silent_at = self.silent_at.filter(|_| !is_late && next.is_some()).or(next);
        is_late
    }
}

impl Supervisor {
    /// What is known of a run that is looked after.
    pub fn checkup(&self, run: RunId) -> Option<&Checkup> {
        let at = self.checkups.binary_search_by_key(&run, |checkup| checkup.run).ok()?;
        self.checkups.get(at)
    }

    /// Looks after those who are there now. True: some instance is to get a new run.
    pub(super) fn mind_checkups(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        let Supervisor { apps, checkups, .. } = self;
        let mut is_marked = false;
        let mut found = Vec::new();
        for App { spec, instances, hold, .. } in apps.iter_mut().filter(|app| app.is_looked_after()) {
            for one in instances.iter_mut().filter(|one| !one.spare) {
                for life in lives(one) {
                    let spec = hold::entry(spec, hold.as_deref(), life.run);
                    if !is_looked_after(&life, spec) {
                        continue;
                    }
                    let known = checkups.binary_search_by_key(&life.run, |known| known.run).ok();
                    let known = known.and_then(|at| checkups.get(at)).cloned();
                    let mut checkup = known.unwrap_or_else(|| Checkup { run: life.run, ..Checkup::default() });
                    match &spec.health {
                        Some(health) => checkup.mind_probes(health, &life, now, out),
                        // Nobody wants to know any more; who does later begins anew.
                        None => {
                            let Checkup { silent_at, spared, .. } = checkup;
                            checkup = Checkup { silent_at, spared, ..checkup.forgotten() };
                        }
                    }
                    let watchdog = spec.watchdog();
                    if checkup.mind_heartbeats(watchdog, &life, now) {
                        let silent = Reason::Silent(watchdog.unwrap_or_default());
                        is_marked |= one.renew_for(life.run, silent, spec, now);
                    }
                    found.push(checkup);
                }
            }
        }
        found.sort_unstable_by_key(|checkup| checkup.run);
        // Whoever is looked after again has no second probe beside one that is out.
        let is_known = |run: RunId| found.binary_search_by_key(&run, |found| found.run).is_ok();
        let is_coming = |run: RunId| apps.iter().flat_map(|app| &app.instances).any(|one| coming(one, run).is_some());
        checkups.retain(|known| known.next == Next::Asked && !is_known(known.run) && is_coming(known.run));
        found.extend(checkups.iter().map(Checkup::forgotten));
        found.sort_unstable_by_key(|checkup| checkup.run);
        *checkups = found;
        is_marked
    }

    /// A probe has ended. One of a run that is not looked after any more says nothing.
    pub(super) fn probed(&mut self, run: RunId, finding: Finding, now: Mono, out: &mut Vec<Effect>) {
        let (settle, random) = (self.settings.settle, self.draw());
        let mut turn = Turn { now, settle, random, out };
        let Some((app, one)) = instance_of(&mut self.apps, run) else { return };
        let asked = |checkup: &&mut Checkup| checkup.run == run && checkup.next == Next::Asked;
        let Some(checkup) = self.checkups.iter_mut().find(asked) else { return };
        checkup.next = Next::Unknown;
        let life = coming(one, run).filter(|life| is_looked_after(life, app));
        let (Some(life), Some(health)) = (life, app.health.as_deref()) else { return };
        let was = checkup.condition;
        match finding {
            Finding::Unknown(why) => checkup.why = why,
            Finding::Well => {
                (checkup.condition, checkup.failed, checkup.why) = (Condition::Healthy, 0, Box::default());
                if was == Condition::Unhealthy {
                    one.note(app, &mut turn, What::Healthy);
                }
                one.call_off(run, |reason| matches!(reason, Reason::Unhealthy(_)));
            }
            Finding::Ill(why) => {
                checkup.why = why;
                let counts = !checkup.is_excused(health, &life, now);
                checkup.failed = checkup.failed.saturating_add(u32::from(counts));
                if counts && checkup.failed >= health.retries.max(1) {
                    checkup.condition = Condition::Unhealthy;
                    let (failed, why) = (checkup.failed, checkup.why.clone());
                    if was != Condition::Unhealthy {
                        one.note(app, &mut turn, What::Unhealthy { failed, why: why.clone() });
                    }
                    one.renew_for(run, Reason::Unhealthy(why), app, now);
                }
            }
        }
        if checkup.condition == Condition::Healthy && *app.ready() == Ready::Healthy {
            one.ready(run, app, &mut turn);
        }
        // As it is by now.
        let life = coming(one, run).unwrap_or(life);
        let pause = checkup.pause(health, &life, now);
        checkup.next = Next::At(now.after(pause.span()));
    }

    /// A run is alive, or says that it is not `well`.
    pub(super) fn heartbeat(&mut self, run: RunId, well: bool, now: Mono) {
        if self.is_ending() {
            return;
        }
        let Some((app, one)) = instance_of(&mut self.apps, run) else { return };
        let Some(span) = app.watchdog() else { return };
        if well {
            one.call_off(run, |reason| matches!(reason, Reason::Silent(span) if *span > Millis::ZERO));
        } else {
            one.renew_for(run, Reason::Silent(Millis::ZERO), app, now);
        }
        if let Some(checkup) = self.checkups.iter_mut().find(|checkup| checkup.run == run) {
            checkup.silent_at = checkup.silent_at.map(|_| now.after(span.span()));
            checkup.spared = false;
        }
    }
}

impl App {
    fn is_looked_after(&self) -> bool {
        let next = self.hold.as_deref().and_then(|hold| hold.next.as_deref());
        self.spec.is_looked_after() || next.is_some_and(AppSpec::is_looked_after)
    }
}

impl AppSpec {
    fn is_looked_after(&self) -> bool {
        self.health.is_some() || self.watchdog().is_some()
    }
}

impl Instance {
    /// Its run is to be replaced, unless that is under way, or has just failed. True if it is.
    pub(super) fn renew_for(&mut self, run: RunId, reason: Reason, app: &AppSpec, now: Mono) -> bool {
        if let Some(second) = self.second_mut(run).filter(|second| second.held().is_some()) {
            second.part = Part::Ailing(reason);
            return true;
        }
        if self.run() != Some(run) {
            return false;
        }
        if self.held().is_some() {
            return self.renew_after_hold(reason, app, now);
        }
        let is_free = self.is_up_or_coming() && self.second.is_none() && self.may_retry(now);
        let is_marked = is_free && self.roll.is_none();
        if is_marked {
            let manner = policy::manner(app, &reason, self.listens());
            self.mark(reason, manner, app, now);
        } else {
            self.insist(reason);
        }
        is_marked
    }

    /// It is to be replaced for what may pass: from now on also for this, which may not.
    pub(super) fn insist(&mut self, reason: Reason) {
        if let Some(roll) = &mut self.roll
            && may_pass(&roll.reason)
            && !may_pass(&reason)
        {
            roll.reason = reason;
        }
    }

    /// Nobody wants to know any more whether it is well.
    pub(super) fn forget_ailment(&mut self) {
        self.roll.take_if(|roll| matches!(roll.reason, Reason::Unhealthy(_)));
    }

    /// Its run is well again, and is not replaced for having been otherwise.
    fn call_off(&mut self, run: RunId, is_over: impl Fn(&Reason) -> bool) {
        if self.run() == Some(run) {
            self.roll.take_if(|roll| is_over(&roll.reason));
        }
    }
}

/// A run that gets well again is not replaced for this any more.
fn may_pass(reason: &Reason) -> bool {
    // Zero: it has asked for it.
    matches!(reason, Reason::Unhealthy(_)) || matches!(reason, Reason::Silent(span) if *span > Millis::ZERO)
}

fn instance_of(apps: &mut [App], run: RunId) -> Option<(&AppSpec, &mut Instance)> {
    apps.iter_mut().find_map(|App { spec, instances, hold, .. }| {
        let one = instances.iter_mut().find(|one| one.has_run(run))?;
        Some((hold::entry(spec, hold.as_deref(), run), one))
    })
}

/// The runs of an instance that nobody has asked to end.
fn lives(one: &Instance) -> impl Iterator<Item = Life> + use<> {
    let both = [one.life().copied(), one.successor().map(|second| second.life)];
    both.into_iter().flatten().filter(Life::is_up_or_coming)
}

fn coming(one: &Instance, run: RunId) -> Option<Life> {
    lives(one).find(|life| life.run == run)
}

fn is_online(life: &Life) -> bool {
    life.phase == Phase::Online
}

/// It is online, or a probe is what makes it so.
fn is_looked_after(life: &Life, app: &AppSpec) -> bool {
    is_online(life) || *app.ready() == Ready::Healthy && matches!(life.phase, Phase::Preparing { .. })
}
