//! Measuring memory: private pages of a run's whole tree, from statm. Only above the limit, and where the kernel lets
//! us read it, the proportional share decides, so that the workers of a preforking server are not charged for the
//! pages that they share.

use super::Engine;
use crate::supervisor::event::{Event, RunId};
use crate::sys::proc;

impl Engine {
    /// Bytes that the run's tree holds for itself, as of the last `look_around`.
    pub(super) fn usage(&self, run: RunId, limit: Option<u64>) -> u64 {
        let tree = self.tree(run);
        let private = proc::private(&tree);
        if limit.is_none_or(|limit| private <= limit) {
            return private;
        }
        proc::proportional(&tree).map_or(private, |share| share.min(private))
    }

    pub(super) fn sample(&mut self, runs: &[RunId]) {
        self.look_around();
        for run in runs {
            let app = self.supervisor.instances().find(|(_, one)| one.run() == Some(*run));
            let bytes = self.usage(*run, app.and_then(|(app, _)| app.memory_limit));
            self.happened(Event::Usage { run: *run, bytes });
        }
    }
}
