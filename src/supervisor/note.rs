//! What the supervisor tells the reader of the log, and its words for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{End, Millis, Reason, Sig};

/// A line for the log. `who` is the app's name, with `-<index>` where it has several instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub who: Box<str>,
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
        let who = &self.who;
        match &self.what {
            What::Waiting { on } => write!(f, "{who}: waiting for {on}"),
            What::Online { pid } => write!(f, "{who}: online, pid {pid}"),
            What::Finished { end } => write!(f, "{who}: finished, {end}"),
            What::Reloading { pid, reason } => write!(f, "{who}: starting a new process beside pid {pid}: {reason}"),
            What::OnTrial { pid, span } => {
                write!(f, "{who}: the new process, pid {pid}, takes over if it lives for {} ms", span.0)
            }
            What::Preparing { pid, span } => {
                write!(f, "{who}: the new process, pid {pid}, takes over if it is ready within {} ms", span.0)
            }
            What::NeverReady { span } => {
                write!(f, "{who}: not ready after {} ms, taken for online; see listen_timeout", span.0)
            }
            What::Unhealthy { failed: 1, why } => write!(f, "{who}: unhealthy: {why}"),
            What::Unhealthy { failed, why } => write!(f, "{who}: unhealthy after {failed} probes: {why}"),
            What::Healthy => write!(f, "{who}: healthy again"),
            What::Succeeded { reason } => write!(f, "{who}: {reason}, its new process takes over at once"),
            What::ReloadFailed { why, pid } => write!(f, "{who}: the new process failed, pid {pid} goes on: {why}"),
            What::NewWasDone { end, pid } => write!(f, "{who}: the new process was done, {end}; pid {pid} goes on"),
            What::Stopped => write!(f, "{who}: stopped"),
            What::Stopping { sig, reason } => write!(f, "{who}: stopping with {sig}: {reason}"),
            What::Draining { reason, most } => {
                write!(f, "{who}: gets no new connections, has {} ms for those it has: {reason}", most.0)
            }
            What::Killing => write!(f, "{who}: still there after its grace, sending SIGKILL"),
            What::Leftovers { sig } => write!(f, "{who}: its main process ended, sending {sig} to those it left"),
            What::Restarting { reason, after: Millis(0) } => write!(f, "{who}: restarting: {reason}"),
            What::Restarting { reason, after } => write!(f, "{who}: restarting in {} ms: {reason}", after.0),
            What::Errored { reason, unstable: 0 } => write!(f, "{who}: errored: {reason}"),
            What::Errored { reason, unstable } => {
                write!(f, "{who}: errored after {unstable} short runs, the last: {reason}")
            }
            What::Pm3(text) if **who == *"pm3" => f.write_str(text),
            What::Pm3(text) => write!(f, "{who}: {text}"),
            What::Fault(text) => write!(f, "{who}: fault in pm3, this instance is held: {text}"),
        }
    }
}
