//! What the supervisor tells the reader of the log, and its words for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{End, InstanceId, Millis, Reason, Sig};

/// A line for the log. `who` is the app's name, with `-<index>` where it has several instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub who: Box<str>,
    /// The instance, if it is about one.
    #[serde(default)]
    pub id: Option<InstanceId>,
    pub what: What,
}

/// What a [`Note`] tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    Waiting {
        on: Box<str>,
    },
    Online {
        pid: u32,
    },
    Finished {
        end: End,
    },
    /// A second run starts beside the one with this pid.
    Reloading {
        pid: u32,
        reason: Reason,
    },
    /// The second run executes, and has to live for so long.
    OnTrial {
        pid: u32,
        span: Millis,
    },
    /// The second run executes, and has so long to say that it is ready.
    Preparing {
        pid: u32,
        span: Millis,
    },
    /// It has not said within this time that it is ready, and is taken for it.
    NeverReady {
        span: Millis,
    },
    /// So many probes in a row have failed, the last one for this.
    Unhealthy {
        failed: u32,
        why: Box<str>,
    },
    /// A probe succeeded again.
    Healthy,
    /// So many runs were short: for so long the next one gets new connections only where no other instance serves.
    Quarantined {
        unstable: u32,
        span: Millis,
    },
    /// It has lived for so long, and gets new connections as the others do.
    Proven {
        span: Millis,
    },
    /// A spare is where it waits to be needed.
    StandsBy {
        pid: u32,
    },
    /// A spare takes the place of this instance, whose run has ended for this reason.
    TakesOver {
        from: Box<str>,
        reason: Reason,
    },
    /// The second run has proven itself, and is held beside the first.
    Held {
        pid: u32,
        old: u32,
    },
    /// The run ended while its successor was on its way.
    Succeeded {
        reason: Reason,
    },
    /// The second run failed; the one with this pid goes on.
    ReloadFailed {
        why: Reason,
        pid: u32,
    },
    /// The second run ended as the file lets it; the one with this pid goes on.
    NewWasDone {
        end: End,
        pid: u32,
    },
    Stopped,
    Stopping {
        sig: Sig,
        reason: Reason,
    },
    /// It gets no new connections, and so long to answer those that it has.
    Draining {
        reason: Reason,
        most: Millis,
    },
    /// The grace is over.
    Killing,
    /// Processes of the tree outlived the main one.
    Leftovers {
        sig: Sig,
    },
    Restarting {
        reason: Reason,
        after: Millis,
    },
    Errored {
        reason: Reason,
        unstable: u32,
    },
    /// pm3's own affairs: shutdown, sweep, a file read again.
    Pm3(Box<str>),
    /// A broken invariant; the instance is held.
    Fault(Box<str>),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_own = matches!(self.what, What::Pm3(_)) && *self.who == *"pm3";
        if !is_own {
            write!(f, "{}: ", self.who)?;
        }
        self.what.fmt(f)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Waiting { on } => write!(f, "waiting for {on}"),
            What::Online { pid } => write!(f, "online, pid {pid}"),
            What::Finished { end } => write!(f, "finished, {end}"),
            What::Reloading { pid, reason } => write!(f, "starting a new process beside pid {pid}: {reason}"),
            What::OnTrial { pid, span } => {
                write!(f, "the new process, pid {pid}, takes over if it lives for {} ms", span.0)
            }
            What::Preparing { pid, span } => {
                write!(f, "the new process, pid {pid}, takes over if it is ready within {} ms", span.0)
            }
            What::NeverReady { span } => {
                write!(f, "not ready after {} ms, taken for online; see listen_timeout", span.0)
            }
            What::Unhealthy { failed: 1, why } => write!(f, "unhealthy: {why}"),
            What::Unhealthy { failed, why } => write!(f, "unhealthy after {failed} probes: {why}"),
            What::Healthy => f.write_str("healthy again"),
            What::Quarantined { unstable, span } => {
                write!(f, "in quarantine for {} ms after {unstable} short runs, others get its connections", span.0)
            }
            What::Proven { span } => write!(f, "out of quarantine, has lived for {} ms", span.0),
            What::StandsBy { pid } => write!(f, "stands by, pid {pid}"),
            What::TakesOver { from, reason } => write!(f, "takes over from {from}: {reason}"),
            What::Held { pid, old } => write!(f, "the new process, pid {pid}, serves and is held beside pid {old}"),
            What::Succeeded { reason } => write!(f, "{reason}, its new process takes over at once"),
            What::ReloadFailed { why, pid } => write!(f, "the new process failed, pid {pid} goes on: {why}"),
            What::NewWasDone { end, pid } => write!(f, "the new process was done, {end}; pid {pid} goes on"),
            What::Stopped => f.write_str("stopped"),
            What::Stopping { sig, reason } => write!(f, "stopping with {sig}: {reason}"),
            What::Draining { reason, most } => {
                write!(f, "gets no new connections, has {} ms for those it has: {reason}", most.0)
            }
            What::Killing => f.write_str("still there after its grace, sending SIGKILL"),
            What::Leftovers { sig } => write!(f, "its main process ended, sending {sig} to those it left"),
            What::Restarting { reason, after: Millis(0) } => write!(f, "restarting: {reason}"),
            What::Restarting { reason, after } => write!(f, "restarting in {} ms: {reason}", after.0),
            What::Errored { reason, unstable: 0 } => write!(f, "errored: {reason}"),
            What::Errored { reason, unstable } => {
                write!(f, "errored after {unstable} short runs, the last: {reason}")
            }
            What::Pm3(text) => f.write_str(text),
            What::Fault(text) => write!(f, "fault in pm3, this instance is held: {text}"),
        }
    }
}
