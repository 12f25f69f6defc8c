//! The pipes that runs write their output into. Init makes two for each start, holds the reading ends until they are
//! empty and nobody can write any more, and reads none of it: that is the logger's, who gets copies. So a logger that
//! dies loses what it had read, and nothing else.
//!
//! The pipes are a run's and not an instance's: then two runs can never share one, whatever processes the first has left
//! behind, and the end of a pipe is the end of all who could write into it.

use std::os::fd::OwnedFd;

use log::warn;

use super::roles::Role;
use super::{Engine, launch};
use crate::control::role::{Opened, Tell};
use crate::supervisor::event::{Failure, InstanceId, RunId, Stage};
use crate::sys::spawn::{Plan, Stream};
use crate::sys::{errno, fds};

/// The pipes of one run.
#[derive(Debug)]
struct Held {
    run: RunId,
    instance: InstanceId,
    pid: u32,
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// The run has ended.
    over: bool,
}

/// The reading ends of a start that is under way.
#[derive(Debug)]
pub(super) struct Ends {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// All pipes that may still have something in them.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    held: Vec<Held>,
}

/// Makes a run's pipes, and its output go into them.
///
/// # Errors
/// There is no descriptor left.
pub(super) fn lay(plan: &mut Plan) -> Result<Ends, Failure> {
    let pipe = || {
        fds::pipe().map_err(|error| {
            let errno = errno::of(&error);
            Failure {
                stage: Stage::Pipe,
                object: "".into(),
                errno,
                why: errno::why(errno),
                passing: errno::passing(errno),
            }
        })
    };
    let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
    plan.stdout = Stream::Given(out);
    plan.stderr = Stream::Given(err);
    Ok(Ends { stdout, stderr })
}

impl Engine {
    /// A run has begun to write into these.
    pub(super) fn hold_pipes(&mut self, ends: Ends, run: RunId, instance: InstanceId, pid: u32) {
        let Ends { stdout, stderr } = ends;
        // First, as one that has just been started is told of all that are held.
        self.want(Role::Logger);
        self.pipes.held.push(Held { run, instance, pid, stdout, stderr, over: false });
        self.tell_of_pipes(self.pipes.held.len().saturating_sub(1));
    }

    /// A run's main process has been reaped.
    pub(super) fn run_is_over(&mut self, run: RunId) {
        if let Some(held) = self.pipes.held.iter_mut().find(|held| held.run == run) {
            held.over = true;
            self.tell(Role::Logger, &Tell::Over { run }, Vec::new());
        }
    }

    /// Lets go of pipes that are empty and have ended.
    pub(super) fn drop_drained_pipes(&mut self) {
        let ended = |held: &Held| held.over && [&held.stdout, &held.stderr].into_iter().all(fds::is_drained);
        self.pipes.held.retain(|held| !ended(held));
        if self.pipes.held.is_empty() {
            self.pipes.held.shrink_to_fit();
        }
    }

    /// What a logger that has just been started has to know.
    pub(super) fn brief_logger(&mut self) {
        self.drop_drained_pipes();
        for at in 0..self.pipes.held.len() {
            self.tell_of_pipes(at);
        }
    }

    fn tell_of_pipes(&mut self, at: usize) {
        let Some(held) = self.pipes.held.get(at) else { return };
        // An instance that is gone takes what was not read of its last words with it.
        let Some((app, instance)) = self.supervisor.instance(held.instance) else { return };
        let Held { run, pid, over, .. } = *held;
        let rare = app.launch.rare.as_deref();
        let opened = Opened {
            run,
            id: instance.id,
            app: app.name.clone(),
            pid,
            mode: app.launch.output.mode,
            output: launch::output(app, instance, self.supervisor.settings()),
            user: rare.and_then(|rare| rare.user.clone()),
            group: rare.and_then(|rare| rare.group.clone()),
        };
        let copies = held.stdout.try_clone().and_then(|stdout| Ok(vec![stdout, held.stderr.try_clone()?]));
        match copies {
            Ok(copies) => {
                self.tell(Role::Logger, &Tell::Open(Box::new(opened)), copies);
                if over {
                    self.tell(Role::Logger, &Tell::Over { run }, Vec::new());
                }
            }
            Err(error) => warn!("{}: its output waits: {}", app.name, errno::why(errno::of(&error))),
        }
    }
}
