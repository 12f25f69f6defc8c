//! Held runs at random: orders, ends and answers in any sequence. Whatever comes, each request is answered once, nobody is
//! signalled who is not there, an instance always has a run that serves, and in the end nothing is left undecided.

use std::collections::{BTreeMap, BTreeSet};

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{
    Amount, Care, ClientId, Count, Effect, End, Event, Mono, Obstacle, Rollout, RunId, Scope, Verb, Wish,
};
use pm3::supervisor::instance::Goal;
use pm3::supervisor::spec::{AppSpec, RestartPolicy, Spec};
use pm3::supervisor::station::Station;

use crate::app;

struct World {
    sup: Supervisor,
    now: u64,
    state: u64,
    alive: BTreeSet<RunId>,
    /// They were asked to end.
    ending: BTreeSet<RunId>,
    asked: u64,
    replies: BTreeMap<ClientId, u32>,
}

impl World {
    fn new(seed: u64) -> World {
        let restart = RestartPolicy { max_restarts: 1_000, ..RestartPolicy::default() }.into();
        let instances = 1 + (seed % 3) as u32;
        let mut web = AppSpec { instances, restart, ..app("web") };
        web.launch.script = "/bin/web".into();
        let sup = Supervisor::new(Spec { apps: vec![web], ..Spec::default() }, 1);
        let state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (alive, ending, replies) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut world = World { sup, now: 0, state, alive, ending, asked: 0, replies };
        world.step(Event::Boot);
        world
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 33) % end
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if self.below(8) == 0 {
                let packed = serde_json::to_string(&self.sup).unwrap();
                self.sup = serde_json::from_str(&packed).unwrap();
            }
            let (mut out, now) = (Vec::new(), Mono(self.now * 1_000_000));
            self.sup.step(now, event, &mut out);
            assert!(self.sup.deadline().is_none_or(|at| at > now), "the deadline must lie ahead");
            for effect in out {
                if let Effect::Spawn { run, .. } = effect {
                    self.alive.insert(run);
                    events.push(Event::Executed { run });
                    events.push(Event::Spawned { run, pid: 100 + run.0 as u32 });
                } else if let Effect::Signal { run, scope: Scope::Process, .. } = effect {
                    assert!(self.alive.contains(&run), "a signal to {run:?}, which is not there");
                    self.ending.insert(run);
                } else if let Effect::Survey { run } = effect {
                    let obstacle = (self.below(12) == 0).then_some(Obstacle::Port(3000));
                    events.insert(0, Event::Surveyed { run, obstacle });
                } else if let Effect::Reply { client, .. } = effect {
                    *self.replies.entry(client).or_default() += 1;
                }
            }
        }
        for (_, one) in self.sup.instances().filter(|(_, one)| one.is_online()) {
            let serves = [one.half, one.half.other()]
                .map(|half| matches!(one.station(half), Station::Serving | Station::Proving));
            assert!(serves.contains(&true), "nobody serves for {one:?}");
        }
    }

    fn ask(&mut self, wish: Wish) {
        self.asked += 1;
        let client = ClientId(self.asked);
        self.step(Event::Request { client, wish, follows: false });
    }

    fn operate(&mut self, verb: Verb, care: Option<Care>) {
        let parallel = (self.below(3) == 0).then_some(2);
        let shell = None;
        self.ask(Wish::Operate { verb, targets: vec!["web".into()], shell, how: Rollout { parallel, care } });
    }

    fn exits(&mut self, run: RunId, code: u8) {
        self.alive.remove(&run);
        self.ending.remove(&run);
        self.step(super::exited(run.0, End::Code(code)));
    }

    fn passes(&mut self) {
        let next = self.sup.deadline().map_or(self.now + 1, |at| at.0.div_ceil(1_000_000));
        self.now = next.max(self.now + 1);
        self.step(Event::Tick);
    }

    fn happens(&mut self) {
        let care =
            [None, Some(Care::Rollback), Some(Care::Canary(Amount::Percent(34))), Some(Care::Canary(Amount::Count(2)))];
        let care = care[self.below(4) as usize];
        match self.below(16) {
            0..3 => self.operate(Verb::Reload, care),
            3 => self.operate(Verb::Promote, None),
            4 => self.operate(Verb::Abort, None),
            5 => {
                let verbs = [Verb::Restart, Verb::Stop, Verb::Start, Verb::Start];
                let verb = verbs[self.below(4) as usize];
                self.operate(verb, None);
            }
            6 => {
                let to = Count::Exactly(1 + self.below(4) as u32);
                self.ask(Wish::Scale { target: "web".into(), to });
            }
            7 => {
                let mut entry = self.sup.apps()[0].spec.clone();
                entry.instances = entry.instances.max(1);
                entry.launch.args = [format!("{}", self.below(3))]
                    .into_iter()
                    .map(Box::from)
                    .collect::<Vec<Box<str>>>()
                    .iter()
                    .collect();
                self.ask(Wish::Apply {
                    verb: Verb::Reload,
                    apps: vec![entry],
                    renew: false,
                    how: Rollout { parallel: None, care },
                });
            }
            8 => {
                let at = self.below(self.alive.len().max(1) as u64) as usize;
                if let Some(run) = self.alive.iter().nth(at).copied() {
                    self.exits(run, 7);
                }
            }
            9..12 => {
                if let Some(run) = self.ending.first().copied() {
                    self.exits(run, 0);
                }
            }
            _ => self.passes(),
        }
    }
}

#[test]
fn whatever_comes_all_is_decided_in_the_end() {
    let (mut held, mut rolled_back) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.happens();
            let hold = world.sup.apps()[0].hold.as_deref();
            held += u32::from(hold.is_some_and(|hold| hold.care != Care::Rollback));
            rolled_back += u32::from(hold.is_some_and(|hold| hold.care == Care::Rollback));
        }
        // Somebody decides, and nothing else happens any more.
        world.operate(Verb::Abort, None);
        for _ in 0..300 {
            match world.ending.first().copied() {
                Some(run) => world.exits(run, 0),
                None if world.sup.deadline().is_some() => world.passes(),
                None => break,
            }
        }
        let app = &world.sup.apps()[0];
        assert!(app.hold.is_none(), "seed {seed}: {:?}", app.hold);
        for one in &app.instances {
            let fits = one.is_online() || one.goal == Goal::Stop && one.is_over();
            assert!(fits && one.second.is_none() && one.roll.is_none(), "seed {seed}: {one:?}");
        }
        let once = (1..=world.asked).all(|client| world.replies.get(&ClientId(client)) == Some(&1));
        assert!(once, "seed {seed}: {:?} of {}", world.replies, world.asked);
    }
    assert!(held > 200 && rolled_back > 200, "{held} {rolled_back}");
}
