//! What a client hears of its request: at the end the outcome, and while it is under way, if it wants that, what happens
//! to each instance that it waits for, when it happens. That is made of the notes that the log gets, so that neither knows
//! what the other does not. Nothing may depend on it: who misses some of it has all that counts in the outcome.

use serde::{Deserialize, Serialize};

use super::event::{InstanceId, Span, What};
use super::pending::Aim;
use super::time::Millis;

/// The answer to a `Request`: which instances did as asked, and what failed, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub done: Vec<Box<str>>,
    pub failed: Vec<Box<str>>,
    /// What the operator should know besides; no failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Box<str>>,
}

/// One thing that has happened on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Of so many instances that the request waits for, so many have arrived, or cannot.
    pub of: u32,
    pub over: u32,
    pub step: Step,
    /// To whom it happened; nobody: the request itself is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    /// The name of its app.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub app: Box<str>,
    /// What, for people; empty where the step says it all.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: Box<str>,
    /// Since the first thing happened to it on behalf of the request; zero: this is the first.
    pub after: Millis,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It was asked for.
    Asked,
    /// It waits for another app.
    Waits,
    /// A new run starts beside the old one.
    Starts,
    /// The new run executes, and has to prove itself.
    Trial,
    /// The new run is online.
    Online,
    /// The old run gets no new connections, and answers those that it has.
    Drains,
    /// The old run is asked to end, for a new one.
    Yields,
    /// It is asked to end, as the request wants it.
    Stops,
    /// Something took longer than it may, or went another way than usual.
    Odd,
    /// It is where the request sent it.
    Done,
    /// It is not, and will not be.
    Failed,
    /// One that this release does not know.
    #[default]
    #[serde(other)]
    Other,
}

impl What {
    /// What a client hears of it that waits for this. None: the reply says it, or it does not matter to the request.
    pub(super) fn as_progress(&self, aim: Aim) -> Option<(Step, String)> {
        let (whose, comes) = match aim {
            Aim::Up { .. } | Aim::Whole { .. } | Aim::Held { .. } => ("the old process ", true),
            Aim::Down | Aim::Gone | Aim::Alone => ("", false),
        };
        Some(match self {
            What::Waiting { on } => (Step::Waits, format!("waits for {on}")),
            What::Reloading { pid, .. } => (Step::Starts, format!("starting a new process beside pid {pid}")),
            What::OnTrial { pid, span } => {
                (Step::Trial, format!("pid {pid} runs and takes over if it lives for {}", Span(*span)))
            }
            What::Preparing { pid, span } => {
                (Step::Trial, format!("pid {pid} runs and takes over when it is ready, within {}", Span(*span)))
            }
            What::Online { pid } => (Step::Online, format!("online, pid {pid}")),
            What::StandsBy { pid } => (Step::Online, format!("stands by, pid {pid}")),
            What::Draining { most, .. } => (Step::Drains, format!("{whose}drains, for {} at most", Span(*most))),
            What::Stopping { sig, .. } => {
                (if comes { Step::Yields } else { Step::Stops }, format!("{whose}stops with {sig}"))
            }
            What::Held { pid, old } => (Step::Online, format!("pid {pid} serves and is held beside pid {old}")),
            What::Killing => (Step::Odd, format!("{whose}did not end in time, sending SIGKILL")),
            What::Leftovers { .. } | What::NeverReady { .. } | What::Succeeded { .. } | What::TakesOver { .. } => {
                (Step::Odd, self.to_string())
            }
            What::Finished { .. }
            | What::Unhealthy { .. }
            | What::Healthy
            | What::Quarantined { .. }
            | What::Proven { .. }
            | What::ReloadFailed { .. }
            | What::NewWasDone { .. }
            | What::Stopped
            | What::Restarting { .. }
            | What::Errored { .. }
            | What::Pm3(_)
            | What::Fault(_) => return None,
        })
    }
}
