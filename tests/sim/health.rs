//! Whether runs are well, as the model has it: when each is looked at, and who is to be replaced for what was found. How a
//! run is follows from all that its probes have found, read anew each time; nothing is counted along the way.

use std::time::Duration;

use pm3::supervisor::Supervisor;
use pm3::supervisor::checkup::Condition;
use pm3::supervisor::event::{Finding, Mono, Reason, RunId, What};
use pm3::supervisor::instance::Instance;
use pm3::supervisor::spec::{Health, Ready};

use crate::hear::is_online;
use crate::kernel::millis;
use crate::model::{Place, Why};
use crate::oracle::{Oracle, Verdict, ensure};
use crate::run::Run;

/// What is known of how a run is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Care {
    /// What its probes have found since somebody wants to know, the first one first.
    findings: Vec<Found>,
    /// The next probe; None: nobody wants one, or one is out.
    due: Option<Mono>,
    out: bool,
    /// The last pause, in ms, of a run that is not ready yet.
    pause: u64,
    /// Then it has been silent for too long.
    silent_at: Option<Mono>,
    /// Nobody was there to hear it then, so it has had another time.
    spared: bool,
}

#[derive(Clone, Copy, Debug)]
enum Found {
    Well,
    Ill {
        counts: bool,
        /// As many as were too many then.
        retries: u32,
    },
    Nothing,
}

impl Care {
    /// How it is, and how many probes have failed since the last good one.
    fn condition(&self) -> (Condition, u32) {
        let last_good = self.findings.iter().rposition(|found| matches!(found, Found::Well));
        let (mut condition, mut failed) = (Condition::Starting, 0);
        if last_good.is_some() {
            condition = Condition::Healthy;
        }
        for found in self.findings.iter().skip(last_good.map_or(0, |at| at + 1)) {
            if let Found::Ill { counts: true, retries } = found {
                failed += 1;
                if failed >= *retries {
                    condition = Condition::Unhealthy;
                }
            }
        }
        (condition, failed)
    }

    fn is_blank(&self) -> bool {
        self.findings.is_empty() && self.deadline().is_none() && !self.out && !self.spared && self.pause == 0
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.due.into_iter().chain(self.silent_at).min()
    }
}

impl Run {
    fn is_online(&self) -> bool {
        self.is_up_or_coming() && self.online_since.is_some() && !self.replaced
    }

    /// A failure says nothing yet: it is not ready, or has only begun and was never well.
    fn is_excused(&self, health: &Health, now: Mono) -> bool {
        let begins = self.began.is_some_and(|began| now < began.after(health.start_period.span()));
        !self.is_online() || begins && self.care.condition().0 == Condition::Starting
    }

    /// From a probe, or the start, to the next one.
    fn pause(&mut self, health: &Health, now: Mono) -> Duration {
        if !self.is_online() {
            let most = u64::from(health.start_interval.0).max(100);
            self.care.pause = (2 * self.care.pause).clamp(100, most);
            return millis(self.care.pause);
        }
        let usual = if self.is_excused(health, now) { health.start_interval } else { health.interval };
        usual.span()
    }
}

impl Place {
    fn is_asked_after(&self) -> bool {
        self.spec.health.is_some() || self.spec.watchdog().is_some()
    }

    /// Somebody wants to know how it is: it serves, or its first good probe is what lets it.
    fn is_looked_after(&self, run: &Run) -> bool {
        self.is_asked_after() && (run.is_online() || *self.spec.ready() == Ready::Healthy && run.is_preparing())
    }

    fn lives(&self) -> impl Iterator<Item = &Run> {
        self.run.iter().chain(self.successor())
    }

    /// Its run is to be replaced for this, unless that is under way, or has just failed.
    pub(crate) fn renew_for(&mut self, run: RunId, why: Why, now: Mono) {
        if self.run.as_ref().is_none_or(|known| known.id != run) {
            return;
        }
        if self.mark.is_some() {
            self.insist(why);
        } else if self.is_up_or_coming() && self.second.is_none() && self.retry_at <= now {
            self.want(why, None, now);
        }
    }

    /// It is to be replaced for what may pass, and now for this, too.
    pub(crate) fn insist(&mut self, why: Why) {
        let may_pass = |why| matches!(why, Why::Unhealthy | Why::Silent);
        if let Some(mark) = self.mark.as_mut().filter(|mark| may_pass(mark.why) && !may_pass(why)) {
            mark.why = why;
        }
    }

    /// It is well again, and stays.
    fn call_off(&mut self, run: RunId, why: Why) {
        if self.run.as_ref().is_some_and(|known| known.id == run) {
            self.mark.take_if(|mark| mark.why == why);
        }
    }

    /// Begins to look after those of its runs that are there to be looked after, and forgets about the others.
    fn look_after(&mut self, now: Mono) {
        // Most worlds have nobody to look after, and this comes several times a step.
        if !self.is_asked_after() && self.run.iter().chain(&self.second).all(|run| run.care.is_blank()) {
            return;
        }
        let looked: Vec<RunId> = self.lives().filter(|run| self.is_looked_after(run)).map(|run| run.id).collect();
        let (health, watchdog) = (self.spec.health.clone(), self.spec.watchdog());
        for run in self.run.iter_mut().chain(&mut self.second) {
            let looked = looked.contains(&run.id);
            match health.as_deref().filter(|_| looked) {
                None => {
                    // Whoever is probed goes on being probed.
                    let Care { out, silent_at, spared, .. } = run.care;
                    run.care = Care { out, silent_at, spared, ..Care::default() };
                }
                Some(health) if run.care.due.is_none() && !run.care.out => {
                    let first = if run.is_online() { run.pause(health, now) } else { Duration::ZERO };
                    run.care.due = run.began.map(|began| began.after(first));
                }
                Some(_) => {}
            }
            let span = watchdog.filter(|_| looked && run.is_online());
            run.care.silent_at = span.and_then(|span| run.care.silent_at.or(Some(now.after(span.span()))));
            run.care.spared &= span.is_some();
        }
    }
}

impl Oracle {
    /// Who has said nothing for too long is replaced, and everybody who is there is looked after.
    pub(crate) fn let_health_come(&mut self, now: Mono) {
        for place in &mut self.model.places {
            place.look_after(now);
            let Some(span) = place.spec.watchdog() else { continue };
            let runs = place.run.iter_mut().chain(&mut place.second);
            let mut silent = Vec::new();
            for run in runs {
                let Some(at) = run.care.silent_at.filter(|at| *at <= now) else { continue };
                run.care.silent_at = Some(now.after(span.span()));
                // Of who was looked at so late, once, nobody knows what was said in time.
                run.care.spared = !run.care.spared && now.since(at) >= millis(100);
                if !run.care.spared {
                    silent.push(run.id);
                }
            }
            silent.into_iter().for_each(|run| place.renew_for(run, Why::Silent, now));
        }
    }

    pub(crate) fn hear_probed(&mut self, now: Mono, run: RunId, finding: &Finding) {
        if self.model.ending.is_some() {
            return;
        }
        let Some(place) = self.model.find(run) else { return };
        let spec = std::rc::Rc::clone(&place.spec);
        let who = place.who();
        let looked = place.lives().any(|known| known.id == run && place.is_looked_after(known));
        let Some(known) = place.run_mut(run).filter(|known| known.care.out) else { return };
        known.care.out = false;
        let Some(health) = spec.health.as_deref().filter(|_| looked) else { return };
        let found = match finding {
            Finding::Well => Found::Well,
            Finding::Ill(_) => Found::Ill { counts: !known.is_excused(health, now), retries: health.retries },
            Finding::Unknown(_) => Found::Nothing,
        };
        let (was, _) = known.care.condition();
        known.care.findings.push(found);
        let (is, failed) = known.care.condition();
        let due = |known: &mut Run| {
            let pause = known.pause(health, now);
            known.care.due = Some(now.after(pause));
        };
        match found {
            Found::Well if *spec.ready() == Ready::Healthy && known.is_preparing() => is_online(place, run, now),
            Found::Well => place.call_off(run, Why::Unhealthy),
            // By what is too many now.
            Found::Ill { counts: true, retries } if failed >= retries => {
                place.renew_for(run, Why::Unhealthy, now);
            }
            Found::Ill { .. } | Found::Nothing => {}
        }
        place.run_mut(run).map(due);
        let changed = was != is && (was == Condition::Unhealthy || is == Condition::Unhealthy);
        self.ailing = changed.then_some((who, is));
    }

    pub(crate) fn hear_heartbeat(&mut self, now: Mono, run: RunId, well: bool) {
        if self.model.ending.is_some() {
            return;
        }
        let Some(place) = self.model.find(run) else { return };
        let Some(span) = place.spec.watchdog() else { return };
        if well {
            place.call_off(run, Why::Silent);
        } else {
            place.renew_for(run, Why::Tired, now);
        }
        if let Some(known) = place.run_mut(run) {
            known.care.silent_at = known.care.silent_at.map(|_| now.after(span.span()));
            known.care.spared = false;
        }
    }

    /// A run is looked at when its time has come, and never twice at once.
    pub(crate) fn allow_probe(&mut self, now: Mono, run: RunId) -> Verdict {
        // Who decides is seen after everybody has had his turn.
        let ends = self.model.ending.as_ref().is_some_and(|ending| ending.codes.is_none() || ending.begun < now);
        ensure!(!ends, "{run:?} is probed while pm3 ends");
        let Some(place) = self.model.find(run) else { return Err(format!("{run:?} is probed, and is gone")) };
        let who = place.who();
        ensure!(place.spec.health.is_some(), "{who}: probed, and nobody wants to know");
        let looked = place.lives().any(|known| known.id == run && place.is_looked_after(known));
        ensure!(looked, "{who}: probed, and it is not there to be looked at");
        let Some(known) = place.run_mut(run) else { return Err("unreachable".into()) };
        ensure!(!known.care.out, "{who}: two probes at once");
        let due = known.care.due.take();
        ensure!(due.is_some_and(|at| at <= now), "{who}: a probe that is due at {due:?}");
        known.care.out = true;
        Ok(())
    }

    /// Who asked for a new run may have been told that none comes, which is called off then. Whether that has happened is
    /// seen in what the supervisor still wants.
    pub(crate) fn see_called_off(&mut self, pm3: &Supervisor) {
        for place in self.model.places.iter_mut().filter(|place| place.mark.is_some_and(|mark| mark.doubtful)) {
            let roll = pm3.instance(place.id).and_then(|(_, one)| one.roll.as_deref());
            place.mark.take_if(|_| roll.is_none());
        }
    }

    /// What is said of how somebody is has just become so.
    pub(crate) fn allow_condition(&mut self, who: &str, what: &What) -> Verdict {
        let told = match what {
            What::Unhealthy { .. } => Condition::Unhealthy,
            What::Healthy => Condition::Healthy,
            _ => return Ok(()),
        };
        let known = self.ailing.take();
        ensure!(known == Some((who.to_owned(), told)), "{who} is said to be {told:?}, the model says {known:?}");
        Ok(())
    }

    /// The supervisor thinks of each run what its probes have found, and replaces for that only whom they found ill.
    pub(crate) fn check_health(&self, place: &Place, one: &Instance, pm3: &Supervisor) -> Verdict {
        let who = place.who();
        for run in place.run.iter().chain(&place.second) {
            let told = pm3.checkup(run.id);
            if self.model.ending.is_some() {
                ensure!(told.is_none(), "{who}: looked after while pm3 ends");
                continue;
            }
            let looked = place.lives().any(|known| known.id == run.id && place.is_looked_after(known));
            ensure!(told.is_some() || !looked, "{who}: nobody looks after {:?}", run.id);
            let out = run.care.out && run.is_up_or_coming();
            ensure!(told.is_none() || looked || out, "{who}: {:?} is looked after", run.id);
            let told = told.map_or_else(Default::default, |known| (known.condition, known.failed));
            let known = run.care.condition();
            ensure!(told == known, "{who}: {:?} is {told:?}, its probes say {known:?}", run.id);
        }
        let told = one.roll.as_deref().and_then(|roll| match &roll.reason {
            Reason::Unhealthy(_) => Some(Why::Unhealthy),
            Reason::Silent(span) if span.0 == 0 => Some(Why::Tired),
            Reason::Silent(_) => Some(Why::Silent),
            _ => None,
        });
        let for_health = |why: &Why| matches!(why, Why::Unhealthy | Why::Silent | Why::Tired);
        let known = place.mark.map(|mark| mark.why).filter(for_health);
        ensure!(told == known, "{who}: to be replaced as it is {told:?}, the model says {known:?}");
        let is_ill = |run: &Run| !run.is_up_or_coming() || run.care.condition().0 == Condition::Unhealthy;
        let fits = known != Some(Why::Unhealthy) || place.run.as_ref().is_none_or(is_ill);
        ensure!(fits, "{who}: to be replaced, and it is well");
        Ok(())
    }
}
