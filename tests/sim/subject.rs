//! The supervisor under test, and the ways to break it. A mutant changes what the supervisor is told or what it says,
//! on its way between it and the world, so that the code that is tested stays as it is shipped. Each is a mistake
//! that somebody could make in the supervisor; the simulation has to notice.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    Count, Effect, Event, Finding, Half, Millis, Mono, Note, RunId, Scope, Sig, Verb, What, Wish,
};
use pm3::supervisor::spec::{ExitPolicy, Spec};
use pm3::supervisor::texts::Texts;

/// For that many steps after packing, the original goes along and has to decide the same.
const LOCKSTEP: u32 = 20;

macro_rules! mutants {
    ($($name:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($name),* }
        pub(crate) const MUTANTS: &[Mutant] = &[$(Mutant::$name),*];
    };
}

mutants! {
    // Told a different plan.
    NoDelay NoBackoff NeverErrored NoOrder NoSettle LongGrace NoBudget WrongSignal NoMemoryLimit StopCodesIgnored
    MainIgnored ExitOnErrorIgnored TreesLeft AutostartAlways NeverDone ChangesMissed
    // Hears something else of clients.
    DeletesNothing ScalesTooFar AppliesTheBad AppliesHalf RenewsAlways StartsForRestart SignalsWrongly QuitsNever
    // Says something else.
    NoKill KillsTwice RepliesTwice RepliesNever RepliesToTheGone SpawnsTwice SpawnsAtTheEnd RestartsTwoAtOnce
    SignalsTheDead ExitsEarly ExitsTwice ExitsWithOne SweepsNever SamplesAlways HidesFailures
    // Has its own idea of a reload.
    EndsTheOldAtOnce EndsTheOldWithTheNew IgnoresPorts ForgetsTheSecond SharesAHalf AsksTwice OverlapsUnasked
    // Does not hear who is ready.
    WaitsForNobody HearsNobody
    // Knows no clients.
    EndsWithoutDrain DrainsForever DrainsInHaste DrainsTheLast NeverAdmits ForgetsWhoListens
    // Has its own idea of who is well.
    ProbesTwice ProbesTheDead ProbesInHaste CountsTooEarly SeesNobodyIll HearsNoHeartbeat ForgetsEntries
    // Does not see files change as they do.
    SeesNoChange SeesOldChanges TogglesNothing
    // Loses time or memory.
    Oversleeps Spins ForgetsTimers MissesExits ForgetsWhenPacked PacksNothing
}

pub(crate) struct Subject {
    pub(crate) pm3: Supervisor,
    mutant: Option<Mutant>,
    original: Option<(Supervisor, u32)>,
    now: Mono,
    dead: Vec<RunId>,
    steps: u32,
}

impl Subject {
    pub(crate) fn new(spec: &Spec, seed: u64, mutant: Option<Mutant>) -> Subject {
        let pm3 = Supervisor::new(misread(mutant, spec), seed);
        Subject { pm3, mutant, original: None, now: Mono(0), dead: Vec::new(), steps: 0 }
    }

    pub(crate) fn step(&mut self, now: Mono, event: Event, out: &mut Vec<Effect>) -> Result<(), String> {
        self.now = now;
        self.steps += 1;
        let Some(event) = self.mishear(event) else { return Ok(()) };
        if let Some((mut original, left)) = self.original.take() {
            let mut other = Vec::new();
            original.step(now, event.clone(), &mut other);
            self.pm3.step(now, event, out);
            let same = *out == other && original == self.pm3;
            if !same {
                return Err(format!("packed and unpacked, it decides {out:?} instead of {other:?}"));
            }
            self.original = (left > 0).then(|| (original, left - 1));
        } else {
            self.pm3.step(now, event, out);
        }
        self.misspeak(out);
        Ok(())
    }

    pub(crate) fn deadline(&self) -> Option<Mono> {
        let deadline = self.pm3.deadline();
        match self.mutant {
            Some(Mutant::Oversleeps) => deadline.map(|at| at.after(std::time::Duration::from_secs(1))),
            Some(Mutant::Spins) => deadline.map(|_| self.now),
            Some(Mutant::ForgetsTimers) => None,
            _ => deadline,
        }
    }

    /// Packs the supervisor as an upgrade does, and goes on with what comes out.
    pub(crate) fn pack_and_unpack(&mut self) -> Result<(), String> {
        let mut packed = serde_json::to_value(&self.pm3).map_err(|error| format!("cannot pack: {error}"))?;
        if self.mutant == Some(Mutant::ForgetsWhenPacked) {
            let apps = packed["apps"].as_array_mut().into_iter().flatten();
            let instances = apps.flat_map(|app| app["instances"].as_array_mut().into_iter().flatten());
            instances.for_each(|one| one["rolling"] = false.into());
            packed["pending"] = serde_json::json!([]);
        }
        if self.mutant == Some(Mutant::PacksNothing) {
            packed = serde_json::json!({});
        }
        let text = packed.to_string();
        let unpacked = serde_json::from_str(&text).map_err(|error| format!("cannot unpack: {error}: {text}"))?;
        self.original = Some((std::mem::replace(&mut self.pm3, unpacked), LOCKSTEP));
        Ok(())
    }

    fn mishear(&self, event: Event) -> Option<Event> {
        match (self.mutant, event) {
            (Some(Mutant::RepliesToTheGone), Event::ClientGone { .. }) => None,
            (Some(Mutant::MissesExits), Event::Exited { .. }) if self.steps.is_multiple_of(16) => None,
            (Some(mutant), Event::Request { client, wish, follows }) => {
                Some(Event::Request { client, wish: misunderstood(mutant, wish)?, follows })
            }
            (Some(Mutant::HearsNobody), Event::Ready { .. })
            | (Some(Mutant::DrainsForever), Event::Drained { .. })
            | (Some(Mutant::NeverAdmits), Event::Listening { .. })
            | (Some(Mutant::HearsNoHeartbeat), Event::Heartbeat { .. })
            | (Some(Mutant::SeesNoChange), Event::FilesChanged { .. }) => None,
            (Some(Mutant::SeesNobodyIll), Event::Probed { run, .. }) => {
                Some(Event::Probed { run, finding: Finding::Well })
            }
            (Some(Mutant::ForgetsWhoListens), Event::Listening { run }) if !self.is_second(run) => None,
            (Some(Mutant::SeesOldChanges), Event::FilesChanged { app, path, .. }) => {
                Some(Event::FilesChanged { app, path, at: Mono(u64::MAX) })
            }
            (Some(Mutant::IgnoresPorts), Event::Surveyed { run, .. }) => Some(Event::Surveyed { run, obstacle: None }),
            (_, Event::Planned { spec }) => Some(Event::Planned { spec: Box::new(misread(self.mutant, &spec)) }),
            (_, event) => Some(event),
        }
    }

    fn misspeak(&mut self, out: &mut Vec<Effect>) {
        let Some(mutant) = self.mutant else { return };
        let all = std::mem::take(out);
        for effect in all {
            match (mutant, &effect) {
                (Mutant::NoKill, Effect::Signal { sig: Sig::KILL, .. })
                | (Mutant::RepliesNever, Effect::Reply { .. })
                | (Mutant::SweepsNever, Effect::Sweep { .. }) => continue,
                (Mutant::HidesFailures, Effect::Note(note)) if matches!(note.what, What::Errored { .. }) => continue,
                (Mutant::KillsTwice, Effect::Signal { sig: Sig::KILL, .. })
                | (Mutant::RepliesTwice, Effect::Reply { .. })
                | (Mutant::ExitsTwice, Effect::Exit { .. }) => out.push(effect.clone()),
                (Mutant::SpawnsTwice, Effect::Spawn { run, instance, half }) => {
                    out.push(Effect::Spawn { run: RunId(run.0 + (1 << 40)), instance: *instance, half: *half });
                }
                (Mutant::SpawnsAtTheEnd, Effect::Sweep { .. }) => {
                    let instance = self.pm3.instances().next().map(|(_, one)| one.id).unwrap_or_default();
                    out.push(Effect::Spawn { run: RunId(1 << 40), instance, half: Half::First });
                }
                (Mutant::ExitsEarly, Effect::Sweep { .. }) => {
                    out.push(Effect::Exit { code: 0, reason: "in a hurry".into() });
                }
                (Mutant::ExitsWithOne, Effect::Exit { reason, .. }) => {
                    out.push(Effect::Exit { code: 1, reason: reason.clone() });
                    continue;
                }
                (Mutant::EndsTheOldAtOnce, Effect::Spawn { instance, .. }) => {
                    let one = self.pm3.instance(*instance).map(|(app, one)| (app.stop.signal, one));
                    let old = one.and_then(|(sig, one)| Some((sig, one.successor().and(one.run())?)));
                    out.extend(old.map(|(sig, run)| Effect::Signal { run, sig, scope: Scope::Process }));
                }
                (Mutant::EndsTheOldWithTheNew, Effect::Note(Note { who, what: What::ReloadFailed { .. }, .. })) => {
                    let mut all = self.pm3.instances().filter(|(app, one)| one.who(app) == *who);
                    let old = all.find_map(|(app, one)| Some((app.stop.signal, one.run()?)));
                    out.extend(old.map(|(sig, run)| Effect::Signal { run, sig, scope: Scope::Process }));
                }
                (Mutant::ForgetsTheSecond, Effect::Signal { run, scope: Scope::Process, .. })
                    if self.is_second(*run) =>
                {
                    continue;
                }
                (Mutant::SharesAHalf, Effect::Spawn { run, instance, half: Half::Second }) => {
                    out.push(Effect::Spawn { run: *run, instance: *instance, half: Half::First });
                    continue;
                }
                (Mutant::EndsWithoutDrain, Effect::Drain { run }) => {
                    out.extend(self.stop_signal(*run));
                    continue;
                }
                (Mutant::DrainsInHaste, Effect::Drain { run }) => {
                    out.push(effect.clone());
                    out.extend(self.stop_signal(*run));
                    continue;
                }
                (Mutant::DrainsTheLast, Effect::Signal { run, scope: Scope::Process, .. }) if self.listens(*run) => {
                    out.push(Effect::Drain { run: *run });
                    continue;
                }
                (Mutant::AsksTwice, Effect::Survey { .. }) | (Mutant::ProbesTwice, Effect::Probe { .. }) => {
                    out.push(effect.clone());
                }
                (Mutant::RestartsTwoAtOnce, Effect::Signal { run, sig, scope: Scope::Process }) => {
                    out.extend(self.sibling(*run).map(|run| Effect::Signal { run, sig: *sig, scope: Scope::Process }));
                }
                _ => {}
            }
            out.push(effect);
        }
        match mutant {
            Mutant::SignalsTheDead | Mutant::ProbesTheDead => {
                let ended = self.dead.pop().filter(|run| self.pm3.instances().all(|(_, one)| one.run() != Some(*run)));
                out.extend(ended.map(|run| match mutant {
                    Mutant::ProbesTheDead => Effect::Probe { run },
                    _ => Effect::Signal { run, sig: Sig::KILL, scope: Scope::Process },
                }));
                self.dead = self.pm3.instances().filter_map(|(_, one)| one.run()).collect();
            }
            Mutant::SamplesAlways => {
                let runs: Vec<RunId> = self.pm3.instances().filter_map(|(_, one)| one.run()).collect();
                out.extend((!runs.is_empty()).then_some(Effect::Sample { runs }));
            }
            _ => {}
        }
    }

    fn is_second(&self, run: RunId) -> bool {
        self.pm3.instances().any(|(_, one)| one.second.as_ref().is_some_and(|second| second.life.run == run))
    }

    fn listens(&self, run: RunId) -> bool {
        self.pm3.instances().any(|(_, one)| one.run() == Some(run) && one.listens())
    }

    fn stop_signal(&self, run: RunId) -> Option<Effect> {
        let (app, _) = self.pm3.instances().find(|(_, one)| one.has_run(run))?;
        Some(Effect::Signal { run, sig: app.stop.signal, scope: Scope::Process })
    }

    /// Another online run of the same app.
    fn sibling(&self, run: RunId) -> Option<RunId> {
        let app = self.pm3.instances().find(|(_, one)| one.run() == Some(run)).map(|(app, _)| app.name.clone())?;
        let mut others = self.pm3.instances().filter(|(spec, _)| spec.name == app);
        others.find(|(_, one)| one.is_online()).and_then(|(_, one)| one.run())
    }
}

/// What a mutant takes a wish for.
fn misunderstood(mutant: Mutant, wish: Wish) -> Option<Wish> {
    Some(match (mutant, wish) {
        (Mutant::QuitsNever, Wish::Quit) => return None,
        (Mutant::DeletesNothing, Wish::Operate { verb: Verb::Delete, targets, shell, how }) => {
            Wish::Operate { verb: Verb::Stop, targets, shell, how }
        }
        (Mutant::TogglesNothing, Wish::Operate { verb: Verb::Watch, targets, shell, how }) => {
            Wish::Operate { verb: Verb::Reset, targets, shell, how }
        }
        (Mutant::ScalesTooFar, Wish::Scale { target, to: Count::Up(more) }) => {
            Wish::Scale { target, to: Count::Up(more + 1) }
        }
        (Mutant::SignalsWrongly, Wish::Signal { targets, .. }) => Wish::Signal { sig: Sig::USR1, targets },
        (Mutant::StartsForRestart, Wish::Apply { apps, renew, how, .. }) => {
            Wish::Apply { verb: Verb::Start, apps, renew, how }
        }
        (mutant, Wish::Apply { verb, mut apps, renew, how }) => {
            match mutant {
                Mutant::AppliesTheBad => apps.iter_mut().for_each(|app| app.requires = Box::default()),
                Mutant::AppliesHalf => drop(apps.pop()),
                _ => {}
            }
            Wish::Apply { verb, apps, renew: renew || mutant == Mutant::RenewsAlways, how }
        }
        (_, wish) => wish,
    })
}

/// The plan as a mutant takes it.
fn misread(mutant: Option<Mutant>, spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    match mutant {
        Some(Mutant::NoSettle) => spec.settings.settle = Millis::ZERO,
        Some(Mutant::NoBudget) => spec.settings.stop_budget = Millis(3_600_000),
        Some(Mutant::NeverDone) => spec.settings.exit = ExitPolicy::Never,
        _ => {}
    }
    for app in &mut spec.apps {
        match mutant {
            Some(Mutant::OverlapsUnasked) => app.overlap = Some(true),
            Some(Mutant::NoDelay) => app.restart.delay = Millis::ZERO,
            Some(Mutant::NoBackoff) => app.restart.backoff = Millis::ZERO,
            Some(Mutant::NeverErrored) => app.restart.max_restarts = u32::MAX,
            Some(Mutant::StopCodesIgnored) => app.restart.stop_exit_codes = Vec::new(),
            Some(Mutant::NoOrder) => (app.after, app.requires) = (Box::default(), Box::default()),
            Some(Mutant::LongGrace) => app.stop.timeout.0 += 500,
            Some(Mutant::WrongSignal) => app.stop.signal = Sig::USR1,
            Some(Mutant::TreesLeft) => app.stop.tree = false,
            Some(Mutant::NoMemoryLimit) => app.memory_limit = None,
            Some(Mutant::MainIgnored) => app.main = false,
            Some(Mutant::ExitOnErrorIgnored) => app.exit_on_error = false,
            Some(Mutant::AutostartAlways) => app.autostart = true,
            Some(Mutant::WaitsForNobody) => app.launch.rare = None,
            Some(Mutant::ProbesInHaste) => app.health.iter_mut().for_each(|health| health.interval.0 /= 2),
            Some(Mutant::CountsTooEarly) => app.health.iter_mut().for_each(|health| health.start_period = Millis::ZERO),
            Some(Mutant::ForgetsEntries) => app.launch.rare.iter_mut().for_each(|rare| rare.listen = Box::default()),
            Some(Mutant::ChangesMissed) => app.launch.args = Texts::default(),
            _ => {}
        }
    }
    spec
}
