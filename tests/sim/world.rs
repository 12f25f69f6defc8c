//! Joins the supervisor, the fake kernel and the oracle on a virtual clock, with operators and platforms that do what
//! they do at random. First the safety phase, in which anything may go wrong; then faults stop and the goal has to be
//! reached; then pm3 is asked to stop, if it has not ended by then.

use std::cell::RefCell;
use std::rc::Rc;

use pm3::supervisor::event::{ClientId, Count, Effect, Event, Mono, Rollout, Sig, Verb, Wish};
use pm3::supervisor::spec::Spec;

use crate::asks::follows;
use crate::dice::Dice;
use crate::holds::Holds;
use crate::kernel::{Happening, Kernel, OVERSLEPT_MS, Regime, millis};
use crate::oracle::Oracle;
use crate::plan;
use crate::spares::Watch;
use crate::subject::{Mutant, Subject};

/// More steps than any seed needs: the supervisor and the world keep each other busy.
const STEPS_MAX: u32 = 20_000;

/// After faults have stopped, the goal is reached within this: the longest back-offs and graces one after another.
const CALM: std::time::Duration = std::time::Duration::from_secs(900);

/// No shutdown takes longer than the largest budget and what pm3 may oversleep.
const ENDING: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Safety,
    Liveness { until: Mono },
    Ending { until: Mono },
}

pub(crate) struct World {
    dice: Dice,
    regime: Regime,
    kernel: Kernel,
    subject: Subject,
    oracle: Oracle,
    /// In a world with spares this judges in place of the oracle, whose model knows none.
    watch: Option<Watch>,
    now: Mono,
    phase: Phase,
    /// What has reached pm3 and waits until it looks.
    inbox: Vec<Event>,
    busy_until: Mono,
    acts_left: u64,
    /// In this world somebody stops pm3 in the midst of everything.
    ends_early: bool,
    packs: bool,
    spec: Spec,
    clients: u64,
    steps: u32,
    trace: Option<Trace>,
}

/// The story of a world, line by line; it outlives a panic.
pub(crate) type Trace = Rc<RefCell<Vec<String>>>;

impl World {
    pub(crate) fn new(mut dice: Dice, mutant: Option<Mutant>, trace: Option<Trace>) -> World {
        let spec = plan::random(&mut dice);
        let regime = Regime::random(&mut dice);
        let world = World {
            subject: Subject::new(&spec, dice.next(), mutant),
            oracle: Oracle::new(spec.clone()),
            watch: None,
            kernel: Kernel::default(),
            now: Mono(1_000_000_000),
            phase: Phase::Safety,
            inbox: Vec::new(),
            busy_until: Mono(0),
            acts_left: dice.between(0, 30),
            ends_early: dice.chance(30),
            packs: dice.chance(15),
            clients: 0,
            steps: 0,
            trace,
            regime,
            spec,
            dice,
        };
        world.tell(|| format!("{:#?}\n{:?}", world.spec, world.regime));
        world
    }

    /// The same with spares, watched by this.
    pub(crate) fn with_spares(mut dice: Dice, watch: Watch, trace: Option<Trace>) -> World {
        let mut spec = plan::random(&mut dice);
        if watch.holds.is_none() || dice.chance(40) {
            plan::spare(&mut dice, &mut spec.apps);
        }
        let mut world = World::new(dice, None, trace);
        world.watch = Some(watch);
        // Who never listens is of no use to a spare.
        let servers: &[u8] = if world.holds() { &[0, 50, 100] } else { &[50, 90, 100] };
        world.regime.servers = world.dice.pick(servers);
        // Where all goes wrong there is nothing to hold.
        if world.holds() && world.dice.chance(60) {
            world.regime = world.regime.lively();
        }
        world.subject = Subject::new(&spec, world.dice.next(), None);
        world.tell(|| format!("{spec:#?}"));
        world.spec = spec;
        world
    }

    /// Runs to the end; Ok: the number of steps.
    pub(crate) fn run(mut self) -> Result<u32, String> {
        self.play()?;
        Ok(self.steps)
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().push(line());
        }
    }

    fn play(&mut self) -> Result<(), String> {
        self.step(Event::Boot)?;
        self.kernel.at(self.now, Happening::Act);
        while !self.has_exited() {
            self.change_phase()?;
            let deadline = self.subject.deadline();
            let wake = if self.inbox.is_empty() { deadline } else { Some(self.now) };
            let wake = wake.map(|at| at.max(self.busy_until).max(self.now));
            match (self.kernel.next_at(), wake) {
                (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                    self.now = self.now.max(at);
                    self.let_happen();
                }
                (_, Some(at)) => {
                    self.now = at;
                    self.wake()?;
                }
                (Some(_), None) => return Err("unreachable: the first arm takes this".into()),
                (None, None) => self.at_rest()?,
            }
        }
        self.step(Event::Tick)
    }

    /// Nothing is going to happen any more.
    fn at_rest(&mut self) -> Result<(), String> {
        match self.phase {
            Phase::Safety => return Err("unreachable: acts are left in the safety phase".into()),
            Phase::Liveness { .. } => self.unreached()?,
            Phase::Ending { .. } => return Err("pm3 does not end, and waits for nothing".into()),
        }
        self.begin_ending();
        Ok(())
    }

    fn has_exited(&self) -> bool {
        self.watch.as_ref().map_or(self.oracle.exited, |watch| watch.exited)
    }

    fn unreached(&self) -> Result<(), String> {
        self.watch.as_ref().map_or_else(|| self.oracle.unreached(), |watch| watch.unreached(&self.subject.pm3))
    }

    /// The apps that are there now.
    fn known(&self) -> Spec {
        if self.watch.is_none() {
            return self.oracle.model.spec.clone();
        }
        let apps = self.subject.pm3.apps().iter().filter(|app| !app.gone).map(|app| app.spec.clone());
        Spec { apps: apps.collect(), ..self.spec.clone() }
    }

    fn change_phase(&mut self) -> Result<(), String> {
        match self.phase {
            Phase::Safety if self.acts_left == 0 => {
                self.regime = self.regime.calm();
                self.phase = Phase::Liveness { until: self.now.after(CALM) };
                self.tell(|| "-- faults stop".into());
            }
            Phase::Liveness { until } => {
                // Not at the first glance: whatever is in flight shall arrive.
                let reached = self.inbox.is_empty() && self.kernel.next_at().is_none_or(|at| at > self.now);
                match self.unreached() {
                    Ok(()) if reached => self.begin_ending(),
                    Err(why) if self.now > until => return Err(format!("the goal is not reached: {why}")),
                    Ok(()) | Err(_) => {}
                }
            }
            Phase::Ending { until } if self.now > until => return Err("pm3 does not end".into()),
            Phase::Safety | Phase::Ending { .. } => {}
        }
        Ok(())
    }

    fn begin_ending(&mut self) {
        self.phase = Phase::Ending { until: self.now.after(ENDING) };
        self.tell(|| "-- the goal is reached, pm3 is asked to stop".into());
        let sig = self.dice.pick(&[Sig::TERM, Sig::TERM, Sig::INT, Sig::QUIT, Sig::PWR]);
        self.inbox.push(Event::Signal { sig, by_kernel: false });
    }

    fn let_happen(&mut self) {
        while let Some(what) = self.kernel.pop(self.now) {
            if let Happening::Act = what {
                self.act();
            } else if let Some(event) = self.kernel.happen(self.now, what) {
                self.inbox.push(event);
            }
        }
    }

    /// pm3 looks at what has come in: signals before exits, as the engine does.
    fn wake(&mut self) -> Result<(), String> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let is_signal = |event: &Event| matches!(event, Event::Signal { .. });
        inbox.sort_by_key(|event| !is_signal(event));
        // The kernel keeps one of a kind pending, however often it was sent.
        inbox.dedup_by(|later, earlier| is_signal(later) && later == earlier);
        for event in inbox {
            self.step(event)?;
        }
        if self.subject.deadline().is_some_and(|at| at <= self.now) {
            self.step(Event::Tick)?;
        }
        if self.dice.chance(self.regime.busy) {
            self.busy_until = self.now.after(millis(self.dice.pick(&[1, 20, 150, OVERSLEPT_MS])));
        }
        if self.packs && self.dice.chance(4) {
            self.tell(|| "-- packed and unpacked".into());
            self.subject.pack_and_unpack()?;
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("no end after {STEPS_MAX} steps"));
        }
        let at = self.now.0 as f64 / 1e9;
        self.tell(|| format!("{at:11.6} {event:?}"));
        let mut effects = Vec::new();
        let heard = self.watch.as_ref().map_or_else(|| event.clone(), |watch| watch.mishear(event.clone()));
        self.subject.step(self.now, heard, &mut effects)?;
        for effect in &effects {
            self.tell(|| match effect {
                Effect::Note(note) => format!("               . {note}"),
                _ => format!("               > {effect:?}"),
            });
        }
        match &mut self.watch {
            None => self.oracle.judge(self.now, &event, &effects, &self.subject.pm3, self.subject.deadline())?,
            Some(watch) => {
                watch.distort(&mut effects, &self.subject.pm3);
                watch.judge(self.now, &event, &effects, &self.subject.pm3)?;
            }
        }
        for effect in effects {
            self.perform(effect);
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { run, instance, .. } => {
                if let Some((app, one)) = self.subject.pm3.instance(instance) {
                    self.kernel.spawn(self.now, run, app, &self.regime, &mut self.dice);
                    if one.spare {
                        self.kernel.is_spare(run);
                    }
                }
            }
            Effect::Signal { run, sig, scope } => self.kernel.signal(self.now, run, sig, scope),
            Effect::Survey { run } => {
                if let Some(obstacle) = self.kernel.survey(run) {
                    let later = self.now.after(millis(self.dice.pick(&[0, 0, 0, 5])));
                    self.kernel.at(later, Happening::Tell(Event::Surveyed { run, obstacle }));
                }
            }
            Effect::Sweep { sig } => self.kernel.sweep(self.now, sig, &mut self.dice),
            Effect::Sample { runs } => {
                for run in runs {
                    if let Some(bytes) = self.kernel.usage(self.now, run) {
                        self.kernel.at(self.now, Happening::Tell(Event::Usage { run, bytes }));
                    }
                }
            }
            Effect::Schedule { app, .. } => {
                let span = self.dice.pick(&[Some(0), Some(700), Some(5_000), Some(60_000), None]);
                let at = span.map(|ms| self.now.after(millis(ms)));
                let later = self.now.after(millis(self.dice.pick(&[0, 0, 3])));
                self.kernel.at(later, Happening::Tell(Event::Scheduled { app, at }));
            }
            Effect::ReadPlan => {
                // A file that does not check changes nothing, and nobody is told.
                if self.dice.chance(80) {
                    self.spec = plan::changed(&mut self.dice, &self.spec);
                    if self.watch.is_some() {
                        plan::spare(&mut self.dice, &mut self.spec.apps);
                    }
                    let spec = Box::new(self.spec.clone());
                    let later = self.now.after(millis(self.dice.pick(&[1, 30, 2_000])));
                    self.kernel.at(later, Happening::Tell(Event::Planned { spec }));
                }
            }
            Effect::Drain { run } => self.kernel.drain(self.now, run, &mut self.dice.aside(run.0)),
            Effect::Probe { run } => self.kernel.probe(self.now, run, &self.regime, &mut self.dice.aside(run.0)),
            Effect::TakeOver { run, .. } => self.kernel.take_over(self.now, run, &mut self.dice),
            Effect::Dismiss { run } => self.kernel.dismiss(self.now, run, &mut self.dice),
            Effect::Progress { .. } | Effect::Reply { .. } | Effect::Note(_) | Effect::Report | Effect::Exit { .. } => {
            }
        }
    }

    /// Somebody does something, and somebody else will, later.
    fn act(&mut self) {
        if self.phase != Phase::Safety || self.acts_left == 0 {
            return;
        }
        self.acts_left -= 1;
        let signal = |sig, by_kernel| Happening::Tell(Event::Signal { sig, by_kernel });
        match self.dice.below(46) {
            30.. if self.holds() => self.request(),
            0..15 => self.request(),
            15..20 => self.kernel.at(self.now, signal(Sig::HUP, false)),
            20 => self.kernel.at(self.now, signal(Sig::USR1, false)),
            21 => {
                let sig = self.dice.pick(&[Sig::USR2, Sig::CONT, Sig(28), Sig(35)]);
                self.kernel.at(self.now, signal(sig, false));
            }
            22..30 => {
                let runs = self.kernel.runs();
                if !runs.is_empty() {
                    let sig = self.dice.pick(&[Sig::KILL, Sig::TERM, Sig::INT, Sig::HUP]);
                    let run = self.dice.pick(&runs);
                    self.kernel.kill_from_outside(self.now, run, sig);
                }
            }
            30..33 => self.kernel.at(self.now, Happening::Tell(Event::ClockChanged)),
            33..35 if self.clients > 0 => {
                let client = ClientId(self.dice.between(1, self.clients));
                self.kernel.at(self.now, Happening::Tell(Event::ClientGone { client }));
            }
            35..38 if self.ends_early => {
                let sig = self.dice.pick(&[Sig::TERM, Sig::INT, Sig::INT, Sig::QUIT, Sig::PWR]);
                for _ in 0..self.dice.between(1, 3) {
                    let later = self.now.after(millis(self.dice.pick(&[0, 200, 5_000])));
                    self.kernel.at(later, signal(sig, false));
                }
            }
            38 if self.ends_early => self.kernel.at(self.now, signal(Sig::HUP, true)),
            39 if self.ends_early => self.term_to_all(),
            40..46 => self.change_files(),
            _ => {}
        }
        let pause = self.dice.pick(&[0, 0, 1, 50, 300, 1_500, 12_000, 40_000]);
        self.kernel.at(self.now.after(millis(pause)), Happening::Act);
    }

    /// Somebody edits an app, or it writes below its own directory; the watcher tells so after a while of quiet.
    fn change_files(&mut self) {
        let apps: Vec<Box<str>> = self.known().apps.iter().map(|app| app.name.clone()).collect();
        let app = if apps.is_empty() { "nobody".into() } else { self.dice.pick(&apps) };
        let path = self.dice.pick(&["index.js", "src/a b.js"]).into();
        let told = self.now.after(millis(self.dice.pick(&[0, 150, 1_000])));
        self.kernel.at(told, Happening::Tell(Event::FilesChanged { app, path, at: self.now }));
    }

    /// As Heroku and `kill -1` do it: everybody gets TERM at once, and pm3 may be the last to see it.
    fn term_to_all(&mut self) {
        for run in self.kernel.runs() {
            self.kernel.kill_from_outside(self.now, run, Sig::TERM);
        }
        let later = self.now.after(millis(self.dice.pick(&[0, 0, 10, 49, 199, 250])));
        self.kernel.at(later, Happening::Tell(Event::Signal { sig: Sig::TERM, by_kernel: false }));
    }

    fn request(&mut self) {
        self.clients += 1;
        let client = ClientId(self.clients);
        let wish = self.wish();
        self.kernel.at(self.now, Happening::Tell(Event::Request { client, wish, follows: follows(client) }));
        if self.dice.chance(10) {
            let later = self.now.after(millis(self.dice.pick(&[0, 100])));
            self.kernel.at(later, Happening::Tell(Event::ClientGone { client }));
        }
    }

    /// Mostly as usual.
    fn rollout(&self) -> Rollout {
        let mut dice = self.dice.aside(7);
        Rollout { parallel: dice.chance(25).then(|| dice.pick(&[1, 2, 3])), care: None }
    }

    /// New runs are held here.
    fn holds(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.holds.is_some())
    }

    fn wish(&mut self) -> Wish {
        match self.dice.below(20) {
            0..12 => {
                let usual = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Reload, Verb::Reload];
                let others = [Verb::Start, Verb::Delete, Verb::Reset, Verb::Watch];
                let verb = if self.dice.chance(60) { self.dice.pick(&usual) } else { self.dice.pick(&others) };
                let shell = self.dice.chance(10).then(|| plan::shell(&mut self.dice));
                let targets = self.targets();
                let (mut verb, mut how) = (verb, self.rollout());
                if self.holds() {
                    Holds::draw(self.dice.aside(8), &mut verb, &mut how);
                }
                Wish::Operate { verb, targets, shell, how }
            }
            12..16 => {
                let known = self.known();
                let mut apps = plan::batch(&mut self.dice, &known);
                if self.watch.is_some() {
                    plan::spare(&mut self.dice, &mut apps);
                }
                let verb = self.dice.pick(&[Verb::Start, Verb::Restart, Verb::Reload]);
                let renew = self.dice.chance(20);
                let mut how = self.rollout();
                how.care = Holds::care(self.dice.aside(9)).filter(|_| self.holds() && verb == Verb::Reload);
                Wish::Apply { verb, apps, renew, how }
            }
            16..18 => {
                let to = self.dice.pick(&[
                    Count::Exactly(0),
                    Count::Exactly(1),
                    Count::Exactly(3),
                    Count::Up(1),
                    Count::Up(2),
                    Count::Down(1),
                    Count::Down(2),
                ]);
                Wish::Scale { target: self.target(), to }
            }
            18 if self.ends_early && self.dice.chance(30) => Wish::Quit,
            18 if self.dice.chance(50) => {
                Wish::Operate { verb: Verb::Delete, targets: vec!["all".into()], shell: None, how: Rollout::default() }
            }
            _ => {
                let sig = self.dice.pick(&[Sig::USR2, Sig::TERM, Sig::KILL, Sig::HUP]);
                Wish::Signal { sig, targets: self.targets() }
            }
        }
    }

    fn targets(&mut self) -> Vec<Box<str>> {
        (0..self.dice.pick(&[1, 1, 1, 2, 3, 0])).map(|_| self.target()).collect()
    }

    fn target(&mut self) -> Box<str> {
        let apps: Vec<Box<str>> = self.known().apps.iter().map(|app| app.name.clone()).collect();
        match self.dice.below(10) {
            0..4 if !apps.is_empty() => self.dice.pick(&apps),
            4..6 => self.dice.below(12).to_string().into(),
            6 => self.dice.pick(&plan::NAMESPACES).into(),
            7 => "all".into(),
            8 => "default".into(),
            _ => self.dice.pick(&["nobody", "", "99", "-1", "A", "front end"]).into(),
        }
    }
}
