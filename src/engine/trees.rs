//! The processes of a run: who they are, whether some are left, and what becomes of those that outlive the main one. What
//! is known is as old as the last look, and one look in a wake-up is enough for all runs: it takes as long as pm3 has
//! children.

use super::{Engine, effects};
use crate::supervisor::event::{Event, RunId, Sig};
use crate::sys::proc::Root;

impl Engine {
    /// Tells of trees whose last process is gone. One that was killed may have made processes while it was looked at:
    /// the end of each of those who did brings us here, until none is left.
    pub(super) fn look_after_lingering(&mut self) {
        let lingering: Vec<(RunId, bool)> = self.runs.lingering().map(|entry| (entry.run, entry.killed)).collect();
        for (run, killed) in lingering {
            if self.is_gone(run) {
                self.runs.remove(run);
                self.happened(Event::Cleared { run });
            } else if killed {
                self.tree(run).into_iter().for_each(|pid| effects::send(pid, Sig::KILL));
            }
        }
    }

    /// Learns anew which children there are; what `tree` says is as old as this.
    pub(super) fn look_around(&mut self) {
        let (runs, roles, probes) = (&self.runs, &self.roles, &self.probes);
        self.processes.refresh(|pid| runs.leads(pid) || roles.has(pid) || probes.has(pid));
        self.looked = true;
    }

    /// Whether no process of a run is left whose main process has ended. Not sure counts as no: who ended while we looked
    /// has still to be reaped, and then it is looked at again.
    pub(super) fn is_gone(&self, run: RunId) -> bool {
        let left = |(main, alive)| alive || self.processes.has_any(&Root { main, alive, mark: &self.origin.mark(run) });
        !self.processes.is_blurred()
            && !self.runs.leader(run).is_some_and(left)
            && self.runs.living_moved(run).is_none()
    }

    /// The processes of a run, as of the last `look_around`.
    pub(super) fn tree(&self, run: RunId) -> Vec<u32> {
        let mut tree = Vec::new();
        if let Some((leader, alive)) = self.runs.leader(run) {
            self.processes.tree(&Root { main: leader, alive, mark: &self.origin.mark(run) }, &mut tree);
        }
        // One that is in no session and has no mark of the run's is known as its main process.
        if let Some(main) = self.runs.living_moved(run).filter(|main| !tree.contains(main)) {
            self.processes.tree(&Root { main, alive: true, mark: "" }, &mut tree);
        }
        tree
    }
}
