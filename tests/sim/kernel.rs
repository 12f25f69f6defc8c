//! The fake kernel: processes that start, fail, crash, ignore signals, leave children behind and grow, on a virtual
//! clock. It is the second interpreter of `Effect`; how badly its processes behave is drawn anew for each seed.

use std::collections::BTreeMap;
use std::time::Duration;

use pm3::supervisor::event::{End, Event, Failure, Finding, Mono, Obstacle, Oom, RunId, Scope, Sig, Stage};
use pm3::supervisor::spec::{AppSpec, Kind, Ready};

use crate::dice::Dice;
use crate::plan::MEMORY_LIMIT;

/// As long as this pm3 may be busy, and not see what happens.
pub(crate) const OVERSLEPT_MS: u64 = 400;

/// Dice aside for those who name another main process; with these the pinned worlds are what they were.
const MOVES: u64 = 36;

/// How often things go wrong, in percent. Many rates are 0 in a given seed, so that faults meet in all combinations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regime {
    pub(crate) spawn_refused: u8,
    pub(crate) spawn_fails: u8,
    pub(crate) exec_fails: u8,
    pub(crate) crashes: u8,
    pub(crate) oneshot_fails: u8,
    pub(crate) deaf: u8,
    pub(crate) slow: u8,
    pub(crate) leaves_kids: u8,
    pub(crate) strays: u8,
    pub(crate) grows: u8,
    pub(crate) hard_to_kill: u8,
    pub(crate) ports: u8,
    /// Of those who are waited for: they never say that they are ready.
    pub(crate) mute: u8,
    /// Who crashes does so at once.
    pub(crate) hasty: bool,
    /// They open ports, which pm3 owns.
    pub(crate) servers: u8,
    /// Of the probes: they do not find it well.
    pub(crate) ill: u8,
    /// Of those who say that they are alive: they stop doing so.
    pub(crate) silent: u8,
    /// Of those who execute: they name another main process.
    pub(crate) moves: u8,
    /// pm3 is busy for a while after a step, so that events pile up and deadlines pass.
    pub(crate) busy: u8,
}

impl Regime {
    pub(crate) fn random(dice: &mut Dice) -> Regime {
        let mut rate = || dice.pick(&[0, 0, 0, 5, 20, 60]);
        let mut regime = Regime {
            spawn_refused: rate(),
            spawn_fails: rate() / 2,
            exec_fails: rate() / 2,
            crashes: rate(),
            oneshot_fails: rate(),
            deaf: rate(),
            slow: rate(),
            leaves_kids: rate(),
            strays: rate() / 4,
            grows: rate(),
            hard_to_kill: rate() / 10,
            ports: rate(),
            mute: rate(),
            hasty: false,
            busy: rate(),
            servers: 0,
            ill: 0,
            silent: 0,
            moves: 0,
        };
        let mut aside = dice.aside(0);
        regime.servers = aside.pick(&[0, 50, 90, 100]);
        (regime.ill, regime.silent) = (aside.pick(&[0, 5, 50, 100]), aside.pick(&[0, 20, 60]));
        regime.moves = dice.aside(MOVES).pick(&[0, 0, 0, 0, 0, 0, 0, 30]);
        // Without a regime in which nothing ever starts, a missing back-off goes unseen.
        match dice.below(24) {
            0 => regime.spawn_refused = 100,
            1 => regime.spawn_fails = 100,
            2 => (regime.crashes, regime.hasty) = (100, true),
            _ => {}
        }
        regime
    }

    /// Some goes wrong with programs, and nothing else.
    pub(crate) fn lively(&self) -> Regime {
        let Regime { grows, ill, busy, mute, moves, .. } = *self;
        Regime { grows, ill, busy, mute, moves, crashes: self.crashes / 4, ..self.calm() }
    }

    /// Nothing goes wrong any more. Programs stay what they are.
    pub(crate) fn calm(&self) -> Regime {
        Regime { servers: self.servers, ..Regime::default() }
    }
}

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// It reaches pm3 without further ado.
    Tell(Event),
    Executes(RunId),
    SaysReady(RunId),
    Listens(RunId),
    IsDrained(RunId),
    IsProbed(RunId, Finding),
    SaysItIsAlive(RunId),
    Moves(RunId),
    ExecFails(RunId, Failure),
    Dies(RunId, End, Oom),
    KidsDie(RunId),
    StrayDies,
    /// Somebody outside does something.
    Act,
}

/// What becomes of a program that binds its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    /// It is none, and goes on.
    No,
    /// It has not come to that yet.
    Coming,
    /// It is held there, and hears nothing but SIGKILL; this came meanwhile.
    Held(Option<Sig>),
    /// It was told that it gets none.
    Dismissed,
}

struct Process {
    main: bool,
    spare: Spare,
    executed: bool,
    kids: bool,
    deaf: bool,
    deaf_kids: bool,
    /// How long the children stay after the main process, if nobody ends them.
    kids_leave: Option<Duration>,
    /// How long it takes to end when asked to, and how it ends.
    answer: (Duration, End),
    killed_in: Duration,
    born: Mono,
    base: u64,
    bytes_per_s: u64,
    port: Option<u16>,
    /// How often it says that it is alive, and how many times it still does; then it says whether it wants to go.
    beats: Option<(Duration, u32, bool)>,
}

/// Processes, and what is going to happen.
#[derive(Default)]
pub(crate) struct Kernel {
    /// What is going to happen, the next one last.
    agenda: Vec<(Mono, Happening)>,
    processes: BTreeMap<RunId, Process>,
    strays: u32,
    sweeping: bool,
    next_pid: u32,
}

impl Kernel {
    /// Puts something on the agenda, behind whatever happens at the same moment.
    pub(crate) fn at(&mut self, at: Mono, what: Happening) {
        let behind = self.agenda.partition_point(|(other, _)| *other > at);
        self.agenda.insert(behind, (at, what));
    }

    pub(crate) fn next_at(&self) -> Option<Mono> {
        self.agenda.last().map(|(at, _)| *at)
    }

    /// The next thing that happens not later than `now`.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Happening> {
        self.agenda.pop_if(|(at, _)| *at <= now).map(|(_, what)| what)
    }

    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.processes.iter().filter(|(_, process)| process.main && process.executed).map(|(run, _)| *run).collect()
    }

    pub(crate) fn is_childless(&self) -> bool {
        self.processes.is_empty() && self.strays == 0
    }

    /// Performs `Effect::Spawn`.
    pub(crate) fn spawn(&mut self, now: Mono, run: RunId, app: &AppSpec, regime: &Regime, dice: &mut Dice) {
        if dice.chance(regime.spawn_refused) {
            let failure = failure(Stage::Fork, 11, true);
            return self.at(now, Happening::Tell(Event::SpawnFailed { run, failure }));
        }
        if dice.chance(regime.spawn_fails) {
            let failure = failure(Stage::Prepare, 24, false);
            return self.at(now, Happening::Tell(Event::SpawnFailed { run, failure }));
        }
        self.next_pid += 1;
        self.at(now, Happening::Tell(Event::Spawned { run, pid: self.next_pid }));
        let deaf = dice.chance(regime.deaf);
        let answer = if dice.chance(regime.slow) { dice.pick(&[90, 1_000, 5_000]) } else { dice.pick(&[0, 1, 20]) };
        let end = dice.pick(&[End::Code(0), End::Signal(app.stop.signal), End::Code(143), End::Code(7)]);
        let grows = dice.chance(regime.grows);
        let hard = dice.chance(regime.hard_to_kill);
        let process = Process {
            main: true,
            spare: Spare::No,
            executed: false,
            kids: dice.chance(regime.leaves_kids),
            deaf,
            deaf_kids: dice.chance(regime.deaf),
            kids_leave: dice.chance(30).then(|| millis(dice.pick(&[0, 60, 10_000]))),
            answer: (millis(answer), end),
            killed_in: millis(if hard { dice.pick(&[300, 3_000, 60_000]) } else { dice.pick(&[0, 0, 5]) }),
            born: now,
            base: dice.pick(&[1 << 10, MEMORY_LIMIT / 2, MEMORY_LIMIT]),
            port: dice.chance(regime.ports).then_some(3000),
            beats: beats(app, regime, &mut dice.aside(run.0 ^ 1)),
            bytes_per_s: if grows { dice.pick(&[1 << 10, MEMORY_LIMIT / 20, MEMORY_LIMIT]) } else { 0 },
        };
        self.processes.insert(run, process);
        if dice.chance(regime.strays) {
            self.strays += 1;
        }
        let executes = now.after(millis(dice.pick(&[0, 0, 1, 15])));
        if dice.chance(regime.exec_fails) {
            let (errno, passing) = dice.pick(&[(2, false), (13, false), (12, true)]);
            return self.at(executes, Happening::ExecFails(run, failure(Stage::Exec, errno, passing)));
        }
        self.at(executes, Happening::Executes(run));
        let within = app.ready_within();
        if let Some(within) = within.filter(|_| !dice.chance(regime.mute)) {
            let within = u64::from(within.0);
            let pause = dice.pick(&[0, 0, 1, 50, within - 1, within, within + 1]);
            if *app.ready() != Ready::Healthy {
                self.at(executes.after(millis(pause)), Happening::SaysReady(run));
            }
        }
        let mut aside = dice.aside(run.0 ^ MOVES);
        if aside.chance(regime.moves) {
            self.at(executes.after(millis(aside.pick(&[0, 1, 300]))), Happening::Moves(run));
        }
        if let Some((every, _, _)) = self.processes.get(&run).and_then(|process| process.beats) {
            self.at(executes.after(every), Happening::SaysItIsAlive(run));
        }
        if !app.owns_ports() {
            self.serve(executes, run, regime, &mut dice.aside(run.0));
        }
        self.live(executes, run, app, regime, dice);
    }

    /// A server listens some time after it executes, at one port or at several; now and then it never does.
    fn serve(&mut self, executes: Mono, run: RunId, regime: &Regime, dice: &mut Dice) {
        if !dice.chance(regime.servers) {
            return;
        }
        for _ in 0..dice.pick(&[1, 1, 1, 2]) {
            let pause = dice.pick(&[0, 0, 1, 50, 99, 100, 101, 900, 2_999, 3_001, 30_000]);
            self.at(executes.after(millis(pause)), Happening::Listens(run));
        }
    }

    /// Performs `Effect::Drain`: sooner or later nobody wants anything of it any more, or somebody does for ever.
    pub(crate) fn drain(&mut self, now: Mono, run: RunId, dice: &mut Dice) {
        let spans = [Some(0), Some(1), Some(40), Some(99), Some(100), Some(101), Some(4_999), Some(5_000), None];
        if let Some(span) = dice.pick(&spans) {
            self.at(now.after(millis(span)), Happening::IsDrained(run));
        }
    }

    /// Performs `Effect::Probe`.
    pub(crate) fn probe(&mut self, now: Mono, run: RunId, regime: &Regime, dice: &mut Dice) {
        let why = || "as the dice fell".into();
        let ill = if dice.chance(90) { Finding::Ill(why()) } else { Finding::Unknown(why()) };
        let finding = if dice.chance(regime.ill) { ill } else { Finding::Well };
        self.at(now.after(millis(dice.pick(&[0, 0, 1, 40, 3_000]))), Happening::IsProbed(run, finding));
    }

    /// This run is a spare's.
    pub(crate) fn is_spare(&mut self, run: RunId) {
        self.processes.entry(run).and_modify(|process| process.spare = Spare::Coming);
    }

    /// Performs `Effect::TakeOver`: the program gets its port, and listens.
    pub(crate) fn take_over(&mut self, now: Mono, run: RunId, dice: &mut Dice) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        let came = if let Spare::Held(sig) = process.spare { sig } else { None };
        process.spare = Spare::No;
        self.at(now.after(millis(dice.pick(&[0, 0, 1, 50]))), Happening::Listens(run));
        came.into_iter().for_each(|sig| self.signal(now, run, sig, Scope::Process));
    }

    /// Performs `Effect::Dismiss`: the program hears what has come meanwhile, and may give up.
    pub(crate) fn dismiss(&mut self, now: Mono, run: RunId, dice: &mut Dice) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        let came = if let Spare::Held(sig) = process.spare { sig } else { None };
        process.spare = Spare::Dismissed;
        came.into_iter().for_each(|sig| self.signal(now, run, sig, Scope::Process));
        if dice.chance(50) {
            self.at(now.after(millis(dice.pick(&[0, 1, 5]))), Happening::Dies(run, End::Code(1), Oom::No));
        }
    }

    /// Draws how long the process lives if nobody ends it.
    fn live(&mut self, from: Mono, run: RunId, app: &AppSpec, regime: &Regime, dice: &mut Dice) {
        let uptime = u64::from(app.restart.min_uptime.0);
        let lives = [0, 0, 1, 40, uptime - 1, uptime, uptime + 1, 6_000, 29_999, 30_000];
        let life = dice.pick(if regime.hasty { &lives[..4] } else { &lives });
        let (end, oom) = match dice.below(12) {
            0..6 => (End::Code(dice.pick(&[1, 2, 255])), Oom::No),
            6 => (End::Code(0), Oom::No),
            7 => (End::Code(3), Oom::No),
            8 => (End::Signal(Sig(11)), Oom::No),
            9 => (End::Signal(dice.pick(&[Sig::TERM, Sig::INT, Sig::HUP])), Oom::No),
            _ => (End::Signal(Sig::KILL), dice.pick(&[Oom::No, Oom::Probably, Oom::Yes])),
        };
        if app.kind == Kind::Oneshot && !dice.chance(regime.oneshot_fails) {
            self.at(from.after(millis(dice.pick(&[0, 5, 700]))), Happening::Dies(run, End::Code(0), Oom::No));
        } else if app.kind == Kind::Oneshot || dice.chance(regime.crashes) {
            self.at(from.after(millis(life)), Happening::Dies(run, end, oom));
        }
    }

    /// Performs `Effect::Signal`; one that comes too late reaches nobody.
    pub(crate) fn signal(&mut self, now: Mono, run: RunId, sig: Sig, scope: Scope) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        if let Spare::Held(came) = &mut process.spare
            && sig != Sig::KILL
        {
            *came = Some(sig);
            return;
        }
        let (after, end) = process.answer;
        // Before the exec nobody has installed a handler.
        let end = if process.executed && sig != Sig::KILL { end } else { End::Signal(sig) };
        let killed_in = process.killed_in;
        let dies_in = match sig {
            Sig::KILL => Some(killed_in),
            _ if !process.executed => Some(Duration::ZERO),
            _ => (!process.deaf).then_some(after),
        };
        let kids_die_in = match sig {
            Sig::KILL => Some(killed_in),
            _ => (!process.deaf_kids).then_some(after),
        };
        if let Some(span) = dies_in.filter(|_| process.main) {
            self.at(now.after(span), Happening::Dies(run, end, Oom::No));
        }
        if let Some(span) = kids_die_in.filter(|_| scope == Scope::Tree) {
            self.at(now.after(span), Happening::KidsDie(run));
        }
    }

    /// Somebody outside sends a signal to a main process, as `kill` or the platform does.
    pub(crate) fn kill_from_outside(&mut self, now: Mono, run: RunId, sig: Sig) {
        if let Some(process) = self.processes.get(&run).filter(|process| process.main && process.executed) {
            let (after, end) = process.answer;
            let caught = sig != Sig::KILL && end != End::Signal(Sig::TERM);
            if caught && matches!(process.spare, Spare::Held(_)) {
                return;
            }
            let (after, end) = if caught { (after, end) } else { (Duration::ZERO, End::Signal(sig)) };
            if sig == Sig::KILL || !process.deaf {
                self.at(now.after(after), Happening::Dies(run, end, Oom::No));
            }
        }
    }

    /// Performs `Effect::Sweep`.
    pub(crate) fn sweep(&mut self, now: Mono, sig: Sig, dice: &mut Dice) {
        self.sweeping = true;
        let runs: Vec<RunId> = self.processes.keys().copied().collect();
        for run in runs {
            self.signal(now, run, sig, Scope::Tree);
        }
        for _ in 0..self.strays {
            if sig == Sig::KILL || dice.chance(50) {
                self.at(now.after(millis(dice.pick(&[0, 30, 3_000]))), Happening::StrayDies);
            }
        }
        if self.is_childless() {
            self.at(now, Happening::Tell(Event::Childless));
        }
    }

    /// What is in the way of another run beside this one; None: it is gone, and nobody answers.
    pub(crate) fn survey(&self, run: RunId) -> Option<Option<Obstacle>> {
        let process = self.processes.get(&run).filter(|process| process.main)?;
        Some(process.port.map(Obstacle::Port))
    }

    /// Private memory of the run's tree, if it is still there.
    pub(crate) fn usage(&self, now: Mono, run: RunId) -> Option<u64> {
        let process = self.processes.get(&run).filter(|process| process.main)?;
        let age_ms = u64::try_from(now.since(process.born).as_millis()).ok()?;
        Some(process.base + process.bytes_per_s.saturating_mul(age_ms) / 1_000)
    }

    /// Lets a happening change the processes; what pm3 learns of it is returned.
    pub(crate) fn happen(&mut self, now: Mono, what: Happening) -> Option<Event> {
        let told = match what {
            Happening::Tell(event) => return Some(event),
            Happening::Act => return None,
            Happening::Executes(run) => {
                let process = self.processes.get_mut(&run).filter(|process| process.main)?;
                process.executed = true;
                Some(Event::Executed { run })
            }
            Happening::SaysReady(run) => {
                self.processes.get(&run).filter(|process| process.main)?;
                Some(Event::Ready { run })
            }
            Happening::Listens(run) => {
                let process = self.processes.get_mut(&run).filter(|process| process.main && process.executed)?;
                match process.spare {
                    Spare::No => Some(Event::Listening { run }),
                    // Now and then it cannot be looked at.
                    Spare::Coming if run.0 % 16 == 5 => {
                        process.spare = Spare::Dismissed;
                        Some(Event::Unfit { run, why: "as the dice fell".into() })
                    }
                    Spare::Coming => {
                        process.spare = Spare::Held(None);
                        Some(Event::StandsBy { run })
                    }
                    Spare::Held(_) => Some(Event::StandsBy { run }),
                    Spare::Dismissed => None,
                }
            }
            Happening::IsDrained(run) => {
                self.processes.get(&run).filter(|process| process.main)?;
                Some(Event::Drained { run })
            }
            // Nobody asks how one was that is gone.
            Happening::IsProbed(run, finding) => {
                self.processes.get(&run).filter(|process| process.main)?;
                Some(Event::Probed { run, finding })
            }
            Happening::SaysItIsAlive(run) => {
                let process = self.processes.get_mut(&run).filter(|process| process.main && process.executed)?;
                let (every, left, goes) = process.beats.as_mut()?;
                let (is_last, after) = (*left == 0, now.after(*every));
                *left = left.saturating_sub(1);
                if is_last && !*goes {
                    return None;
                }
                if !is_last {
                    self.at(after, Happening::SaysItIsAlive(run));
                }
                Some(Event::Heartbeat { run, well: !is_last })
            }
            Happening::Moves(run) => {
                self.processes.get(&run).filter(|process| process.main && process.executed)?;
                self.next_pid += 1;
                Some(Event::Moved { run, pid: self.next_pid })
            }
            Happening::ExecFails(run, failure) => {
                self.processes.get(&run).filter(|process| process.main)?;
                self.processes.remove(&run);
                Some(Event::SpawnFailed { run, failure })
            }
            Happening::Dies(run, end, oom) => {
                let process = self.processes.get_mut(&run).filter(|process| process.main)?;
                (process.main, process.spare) = (false, Spare::No);
                // A program that never began has no children.
                let leftovers = process.kids && process.executed;
                let leave = process.kids_leave;
                if !leftovers {
                    self.processes.remove(&run);
                } else if let Some(span) = leave {
                    self.at(now.after(span), Happening::KidsDie(run));
                }
                Some(Event::Exited { run, end, oom, leftovers })
            }
            Happening::KidsDie(run) => {
                let process = self.processes.get_mut(&run).filter(|process| process.kids)?;
                process.kids = false;
                if process.main {
                    None
                } else {
                    self.processes.remove(&run);
                    Some(Event::Cleared { run })
                }
            }
            Happening::StrayDies => {
                self.strays = self.strays.saturating_sub(1);
                None
            }
        };
        if self.sweeping && self.is_childless() {
            self.at(now, Happening::Tell(Event::Childless));
        }
        told
    }
}

/// How a program says that it is alive whose entry wants that.
fn beats(app: &AppSpec, regime: &Regime, dice: &mut Dice) -> Option<(Duration, u32, bool)> {
    let span = u64::from(app.watchdog()?.0);
    let every = millis(dice.pick(&[span / 2, span * 3 / 4, span - 1]));
    let left = if dice.chance(regime.silent) { dice.pick(&[0, 1, 6]) } else { u32::MAX };
    Some((every, left, dice.chance(40)))
}

fn failure(stage: Stage, errno: i32, passing: bool) -> Failure {
    Failure { stage, object: "".into(), errno, why: "as the dice fell".into(), passing }
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
