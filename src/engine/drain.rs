//! Runs that are to end and have clients still. New connections go to others already; a run is drained when nobody waits
//! at its slots, no handshake is half open that began before, and none of its connections is in use. Looked at again and
//! again, in steps that grow, as nothing tells when that is so; and only for as long as the supervisor waits for it.
//!
//! The kernel shows neither a connection that a thread has taken from a slot and has no descriptor for yet, nor that a
//! thread is between two pieces of an answer. But a thread that sleeps is in neither place: so a run is drained only if
//! all its threads sleep, nothing is to be done, and all sleep still.

use std::time::Duration;

use super::Engine;
use crate::supervisor::event::{Event, Mono, RunId};
use crate::sys::diag::{self, Connection, State, Work};
use crate::sys::{clock, errno, proc};

/// The first look comes so long after new connections went elsewhere: the kernel has seen to what came before. It is
/// followed by another after as long, and each by one after twice as long, up to the second.
const FIRST: Duration = Duration::from_millis(2);
const LAST: Duration = Duration::from_millis(50);

/// A client that has connected and has said nothing for this long is not about to: it keeps a connection for later.
const FRESH: Duration = Duration::from_millis(500);

/// A program that has nothing to do for any client, and is at work all the same for so long, does something else.
const AT_WORK: Duration = Duration::from_millis(500);

/// All runs that are drained.
#[derive(Debug, Default)]
pub(super) struct Drains(Vec<Drain>);

#[derive(Debug)]
struct Drain {
    run: RunId,
    began: Mono,
    next: Mono,
    wait: Duration,
    /// Handshakes that were half open when it began, by cookie, and have not been seen to end since: they may end at this
    /// run's slots. None: not looked yet.
    opening: Option<Vec<u64>>,
    /// What was unclear at the last look, and may be so only because the kernel's clock is slow.
    unclear: Vec<u64>,
    /// Since when it is at work for nobody.
    at_work: Option<Mono>,
}

/// What can be seen of a run, at the moment of asking.
trait Sight {
    /// Connections that wait at its slots.
    fn waiting(&self) -> u32;
    /// Those of its ports, of whichever run. None: the kernel cannot tell now.
    fn connections(&self) -> Option<Vec<Connection>>;
    /// The inodes of its sockets. None: not all can be seen.
    fn sockets(&self) -> Option<Vec<u64>>;
    /// One of its threads does not sleep.
    fn is_at_work(&self) -> bool;
}

/// A run with its processes, as of the last `look_around`.
struct Seen<'a> {
    engine: &'a Engine,
    run: RunId,
    tree: Vec<u32>,
}

impl Sight for Seen<'_> {
    fn waiting(&self) -> u32 {
        self.engine.slots.waiting(self.run)
    }

    fn connections(&self) -> Option<Vec<Connection>> {
        let mut all = Vec::new();
        for port in self.engine.slots.ports(self.run) {
            match diag::connections(port) {
                Ok(connections) => all.extend(connections),
                Err(error) if errno::passing(errno::of(&error)) => return None,
                // What the kernel never tells cannot be waited for; what waits at the slots can.
                Err(_) => {}
            }
        }
        Some(all)
    }

    fn sockets(&self) -> Option<Vec<u64>> {
        proc::sockets_of_all(&self.tree)
    }

    fn is_at_work(&self) -> bool {
        proc::are_at_work(&self.tree)
    }
}

impl Drains {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.0.iter().map(|drain| drain.next).min()
    }
}

impl Engine {
    /// Waits until this run has nothing to do any more.
    pub(super) fn drain(&mut self, run: RunId) {
        self.drains.0.push(Drain::new(run, clock::now()));
    }

    /// The run is over, or is not waited for any more.
    pub(super) fn stop_draining(&mut self, run: RunId) {
        self.drains.0.retain(|drain| drain.run != run);
    }

    /// Looks at those whose time has come.
    pub(super) fn mind_drains(&mut self) {
        let now = clock::now();
        let due: Vec<RunId> = self.drains.0.iter().filter(|drain| drain.next <= now).map(|drain| drain.run).collect();
        if due.is_empty() {
            return;
        }
        self.look_around();
        for run in due {
            let Some(at) = self.drains.0.iter().position(|drain| drain.run == run) else { continue };
            let mut drain = self.drains.0.swap_remove(at);
            if drain.is_over(now, &Seen { engine: self, run, tree: self.tree(run) }) {
                self.happened(Event::Drained { run });
            } else {
                drain.next = now.after(drain.wait);
                drain.wait = (drain.wait * 2).min(LAST);
                self.drains.0.push(drain);
            }
        }
    }
}

impl Drain {
    fn new(run: RunId, now: Mono) -> Drain {
        let next = now.after(FIRST);
        Drain { run, began: now, next, wait: FIRST, opening: None, unclear: Vec::new(), at_work: None }
    }

    /// A look.
    fn is_over(&mut self, now: Mono, sight: &impl Sight) -> bool {
        if self.may_get_more(sight) {
            return false;
        }
        let unclear = std::mem::take(&mut self.unclear);
        if self.is_in_use(&unclear, now, sight) {
            self.at_work = None;
            return false;
        }
        // What was unseen then is seen when all threads have slept; and an answer is whole when they sleep again.
        let at_work = sight.is_at_work();
        if self.is_in_use(&unclear, now, sight) {
            return false;
        }
        let at_work = at_work || sight.is_at_work();
        !at_work || now.since(*self.at_work.get_or_insert(now)) >= AT_WORK
    }

    /// A handshake may end at a slot of it that it was half open for. One that has ended since the last look is looked
    /// at once more: it may have been taken from the slot just now.
    fn may_get_more(&mut self, sight: &impl Sight) -> bool {
        if self.opening.as_ref().is_some_and(Vec::is_empty) {
            return false;
        }
        let Some(connections) = sight.connections() else { return true };
        let Some(opening) = &mut self.opening else {
            let opening = connections.iter().filter(|one| one.state == State::Opening).map(|one| one.cookie);
            return !self.opening.insert(opening.collect()).is_empty();
        };
        opening.retain(|cookie| connections.iter().any(|one| one.cookie == *cookie && one.inode == 0));
        true
    }

    /// Somebody waits at a slot, or has a connection that is in use.
    fn is_in_use(&mut self, unclear: &[u64], now: Mono, sight: &impl Sight) -> bool {
        // First: what is taken from there after that is seen below, where nothing new comes.
        if sight.waiting() > 0 {
            return true;
        }
        let Some(mut connections) = sight.connections() else { return true };
        let is_young = now.since(self.began) < FRESH;
        connections.retain(|one| one.state != State::Opening && one.inode != 0);
        connections.retain(|one| match one.work {
            Work::Busy => true,
            Work::Fresh => is_young,
            Work::Idle => false,
            Work::Unclear => !unclear.contains(&one.cookie),
        });
        if connections.is_empty() {
            return false;
        }
        let own = sight.sockets();
        connections.retain(|one| own.as_ref().is_none_or(|own| own.contains(&one.inode)));
        self.unclear = connections.iter().filter(|one| one.work == Work::Unclear).map(|one| one.cookie).collect();
        !connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// What a server and the kernel do with one connection, step by step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Step {
        Opening,
        Queued,
        /// No slot has it any more, and it has no inode yet (inet_csk_accept).
        Taken,
        /// It has, and the process has no descriptor for it yet (fd_install).
        Grafted,
        Accepted,
        /// The thread sleeps until something is asked.
        Awaited,
        Asked,
        Answering,
        /// The first piece of the answer has arrived.
        HalfAnswered,
        Answered,
        Closed,
    }

    const STEPS: [Step; 11] = [
        Step::Opening,
        Step::Queued,
        Step::Taken,
        Step::Grafted,
        Step::Accepted,
        Step::Awaited,
        Step::Asked,
        Step::Answering,
        Step::HalfAnswered,
        Step::Answered,
        Step::Closed,
    ];

    /// Things happen between any two questions.
    struct Scene {
        at: Cell<usize>,
        random: Cell<u64>,
        story: RefCell<Vec<(Step, &'static str)>>,
    }

    const OWN: Connection = Connection { inode: 9, cookie: 7, state: State::Established, work: Work::Fresh };

    /// Those of other runs: one is asked something, and one waits at a slot.
    const OTHERS: [Connection; 2] = [
        Connection { inode: 99, cookie: 97, state: State::Established, work: Work::Busy },
        Connection { inode: 0, cookie: 98, state: State::Established, work: Work::Fresh },
    ];

    impl Scene {
        fn new(seed: u64) -> Scene {
            let scene = Scene { at: Cell::new(0), random: Cell::new(seed), story: RefCell::default() };
            scene.at.set(scene.draw() as usize % STEPS.len());
            scene
        }

        /// Donald Knuth's MMIX generator; its upper bits.
        fn draw(&self) -> u64 {
            let next =
                self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.random.set(next);
            next >> 33
        }

        fn asked(&self, what: &'static str) -> Step {
            let further = [0, 0, 0, 1, 1, 2, 4][self.draw() as usize % 7];
            self.at.set((self.at.get() + further).min(STEPS.len() - 1));
            let step = STEPS[self.at.get()];
            self.story.borrow_mut().push((step, what));
            step
        }
    }

    impl Sight for Scene {
        fn waiting(&self) -> u32 {
            (self.asked("waiting") == Step::Queued).into()
        }

        fn connections(&self) -> Option<Vec<Connection>> {
            let own = match self.asked("connections") {
                Step::Opening => Some(Connection { inode: 0, state: State::Opening, ..OWN }),
                Step::Queued | Step::Taken => Some(Connection { inode: 0, ..OWN }),
                Step::Grafted | Step::Accepted | Step::Awaited => Some(OWN),
                Step::Asked | Step::Answering => Some(Connection { work: Work::Busy, ..OWN }),
                Step::HalfAnswered | Step::Answered => Some(Connection { work: Work::Idle, ..OWN }),
                Step::Closed => None,
            };
            Some(own.into_iter().chain(OTHERS).collect())
        }

        fn sockets(&self) -> Option<Vec<u64>> {
            let has_it = (Step::Accepted..Step::Closed).contains(&self.asked("sockets"));
            Some(if has_it { vec![1, OWN.inode] } else { vec![1] })
        }

        fn is_at_work(&self) -> bool {
            use Step::{Accepted, Answering, Grafted, HalfAnswered, Taken};
            [Taken, Grafted, Accepted, Answering, HalfAnswered].contains(&self.asked("at work"))
        }
    }

    const BEGAN: Mono = Mono(1_000_000_000);

    #[test]
    fn nobody_is_drained_who_has_something_to_do() {
        for seed in 0..100_000 {
            let (scene, mut drain) = (Scene::new(seed), Drain::new(RunId(1), BEGAN));
            // All within the time in which nothing is given up.
            let looks = (0..100).position(|_| drain.is_over(BEGAN.after(FIRST), &scene));
            let last = STEPS[scene.at.get()];
            assert!(looks.is_some(), "seed {seed}: never drained");
            assert!(last >= Step::Answered, "seed {seed}: drained while {last:?}; {:?}", scene.story.borrow());
        }
    }

    /// It is always at work, and for nobody.
    struct Hog;

    impl Sight for Hog {
        fn waiting(&self) -> u32 {
            0
        }

        fn connections(&self) -> Option<Vec<Connection>> {
            Some(OTHERS.into())
        }

        fn sockets(&self) -> Option<Vec<u64>> {
            Some(vec![1])
        }

        fn is_at_work(&self) -> bool {
            true
        }
    }

    #[test]
    fn who_works_for_nobody_is_waited_for_so_long() {
        let mut drain = Drain::new(RunId(1), BEGAN);
        let begun = BEGAN.after(FIRST);
        assert!(!drain.is_over(begun, &Hog));
        assert!(!drain.is_over(begun.after(AT_WORK - FIRST), &Hog));
        assert!(drain.is_over(begun.after(AT_WORK), &Hog));
    }
}
