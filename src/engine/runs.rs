//! The one place where pids are resolved to runs. Init reaps its children here alone, so a pid in this table cannot
//! have been given to a stranger. It also bounds how many starts are under way: each holds a socket until its program
//! executes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::supervisor::event::{Failure, Half, InstanceId, RunId};
use crate::sys::pidfd::PidFd;

/// Starts under way at once. More would gain nothing: each waits for a processor or the disk, and each holds a
/// descriptor meanwhile.
const LAUNCHES_MAX: usize = 64;

/// A run that has a process, or had one whose tree is not gone yet.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run: RunId,
    pub(super) instance: InstanceId,
    pub(super) half: Half,
    pub(super) pid: u32,
    pub(super) stage: Stage,
    /// Its tree has been sent SIGKILL: whatever is made meanwhile gets it too.
    pub(super) killed: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Forked; the socket tells whether its program executes.
    Starting(OwnedFd),
    Running,
    /// Its start failed; the process has still to be reaped. Boxed, because each of thousands of runs has room for it.
    Failed(Box<Failure>),
    /// The main process has been reaped, others of its tree are alive.
    Lingering,
}

/// A start that has been ordered and has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) run: RunId,
    pub(super) instance: InstanceId,
    pub(super) half: Half,
}

#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Sorted by pid: each child is looked up here, and there may be thousands.
    entries: Vec<Entry>,
    waiting: VecDeque<Order>,
    moved: Vec<Moved>,
}

/// A run whose main process is another one than it was started with.
#[derive(Debug)]
struct Moved {
    run: RunId,
    /// The one that it was started with, after which its session is called.
    leader: u32,
    /// That one has been reaped.
    left: bool,
    /// Its main process.
    process: PidFd,
}

impl Runs {
    pub(super) fn order(&mut self, order: Order) {
        self.waiting.push_back(order);
    }

    /// The next start, if there is room for one.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let starting = self.entries.iter().filter(|entry| matches!(entry.stage, Stage::Starting(_))).count();
        if starting < LAUNCHES_MAX { self.waiting.pop_front() } else { None }
    }

    /// Takes an ordered start back; true if it had not begun.
    pub(super) fn withdraw(&mut self, run: RunId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|order| order.run != run);
        before != self.waiting.len()
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|other| other.pid < entry.pid);
        self.entries.insert(at, entry);
    }

    pub(super) fn by_run(&self, run: RunId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.run == run)
    }

    pub(super) fn by_run_mut(&mut self, run: RunId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.run == run)
    }

    /// The run whose main process has this pid. The pid of one that lingers may be somebody else's by now.
    pub(super) fn by_pid(&self, pid: u32) -> Option<RunId> {
        let at = self.entries.partition_point(|other| other.pid < pid);
        let same = self.entries.iter().skip(at).take_while(|entry| entry.pid == pid);
        same.filter(|entry| !matches!(entry.stage, Stage::Lingering)).map(|entry| entry.run).next()
    }

    /// The run's main process is this one from now on.
    pub(super) fn moves(&mut self, run: RunId, pid: u32, process: PidFd) {
        let Some(at) = self.entries.iter().position(|entry| entry.run == run) else { return };
        let entry = self.entries.remove(at);
        let before = self.moved.iter().position(|moved| moved.run == run).map(|at| self.moved.swap_remove(at));
        let (leader, left) = before.map_or((entry.pid, false), |before| (before.leader, before.left));
        if pid != leader {
            self.moved.push(Moved { run, leader, left, process });
        }
        self.add(Entry { pid, ..entry });
    }

    /// The processes that have been named as main ones, with their numbers.
    pub(super) fn moved(&self) -> impl Iterator<Item = (u32, &PidFd)> {
        let lives = |entry: &&Entry| !matches!(entry.stage, Stage::Lingering);
        self.moved.iter().filter_map(move |moved| {
            let entry = self.by_run(moved.run).filter(lives)?;
            Some((entry.pid, &moved.process))
        })
    }

    /// The run's main process, if that has been named.
    pub(super) fn process(&self, run: RunId) -> Option<&PidFd> {
        self.moved.iter().find(|moved| moved.run == run).map(|moved| &moved.process)
    }

    /// The same, by its number, if it has not ended.
    pub(super) fn living_moved(&self, run: RunId) -> Option<u32> {
        self.process(run).filter(|process| !process.has_ended())?;
        self.by_run(run).map(|entry| entry.pid)
    }

    /// The process that the run was started with, and whether it has not been reaped.
    pub(super) fn leader(&self, run: RunId) -> Option<(u32, bool)> {
        let entry = self.by_run(run)?;
        let moved = self.moved.iter().find(|moved| moved.run == run);
        Some(moved.map_or((entry.pid, !matches!(entry.stage, Stage::Lingering)), |moved| (moved.leader, !moved.left)))
    }

    /// Whether a run was started with this child of ours.
    pub(super) fn leads(&self, pid: u32) -> bool {
        let is_moved = |run: &RunId| self.moved.iter().any(|moved| moved.run == *run);
        self.by_pid(pid).is_some_and(|run| !is_moved(&run))
            || self.moved.iter().any(|moved| moved.leader == pid && !moved.left)
    }

    /// A child of ours has been reaped.
    pub(super) fn leader_left(&mut self, pid: u32) {
        self.moved.iter_mut().filter(|moved| moved.leader == pid).for_each(|moved| moved.left = true);
    }

    /// No run has a process, or is about to.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.waiting.is_empty()
    }

    /// Gives back what a crowd of starts has taken.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.waiting.shrink_to_fit();
        self.moved.shrink_to_fit();
    }

    pub(super) fn remove(&mut self, run: RunId) {
        self.entries.retain(|entry| entry.run != run);
        self.moved.retain(|moved| moved.run != run);
    }

    /// Runs whose main process is gone and whose tree is not.
    pub(super) fn lingering(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.stage, Stage::Lingering))
    }
}
