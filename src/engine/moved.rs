//! Main processes that apps have named themselves (`MAINPID`, sd_notify(3)): of a program that has executed itself anew, or
//! of a script that leaves its server behind. From then on signals go to that one, and its end is the run's; what pm3 has
//! started for the run is one of its other processes.
//!
//! It may be the child of another one, who reaps it: then pm3 is not told how it ended, and its number may be a stranger's
//! before pm3 knows. So it is held by a descriptor (`sys::pidfd`): that tells of its end, and signals go by it. It has to
//! be of the run's own processes when it is named; whoever may write to the run's socket could name any.

use std::os::fd::AsRawFd;

use log::{info, warn};
use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::runs::{Entry, Stage};
use super::{Engine, MOVED};
use crate::supervisor::event::{End, Event, RunId};
use crate::supervisor::life::Life;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::Root;
use crate::sys::{clock, errno};

impl Engine {
    /// A run says that this is its main process.
    pub(super) fn move_main(&mut self, run: RunId, pid: u32) {
        let is_it = |entry: &&Entry| matches!(entry.stage, Stage::Running) && entry.pid != pid;
        if self.runs.by_run(run).filter(is_it).is_none() {
            return;
        }
        let Some((app, one)) = self.supervisor.instances().find(|(_, one)| one.has_run(run)) else { return };
        // Who has been asked to end would not be the one who is waited for.
        if !one.life_of(run).is_some_and(Life::is_unsignalled) {
            return;
        }
        let who = one.who(app);
        let moved = self.held(run, pid);
        let tells = self.notices.may_tell(run, clock::now());
        match moved {
            Ok(process) => {
                self.runs.moves(run, pid, process);
                self.happened(Event::Moved { run, pid });
                if tells {
                    info!("{who}: its main process is pid {pid} from now on");
                }
            }
            Err(why) if tells => warn!("{who}: MAINPID={pid} does not count: {why}"),
            Err(_) => {}
        }
    }

    /// A process that may become a run's main one.
    fn held(&self, run: RunId, pid: u32) -> Result<PidFd, Box<str>> {
        let io = |error: std::io::Error| errno::why(errno::of(&error));
        let process = PidFd::open(pid).map_err(io)?;
        // Whoever has the number while this looks, and lives afterwards, is the one who is held.
        if !self.is_of(run, pid) || process.has_ended() {
            return Err("it is no process of this app that runs".into());
        }
        let token = Token(usize::try_from(run.0).unwrap_or(usize::MAX - MOVED).saturating_add(MOVED));
        self.poll.registry().register(&mut SourceFd(&process.as_raw_fd()), token, Interest::READABLE).map_err(io)?;
        Ok(process)
    }

    fn is_of(&self, run: RunId, pid: u32) -> bool {
        let Some((leader, alive)) = self.runs.leader(run) else { return false };
        self.processes.belongs(pid, &Root { main: leader, alive, mark: &self.origin.mark(run) })
    }

    /// Named processes that have ended, by number.
    pub(super) fn moved_ends(&self) -> Vec<(u32, End)> {
        self.runs.moved().filter_map(|(pid, process)| Some((pid, process.end()?))).collect()
    }
}
