//! What verbs share when they ask a supervisor: which one is meant, how its answer will be seen, and which exit code a
//! failure to ask is.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::view::Style;
use super::{Exit, Report};
use crate::config;
use crate::control::Problem;
use crate::control::client::{Client, Error, Peer};
use crate::control::place::{self, Facts};
use crate::sys;
use crate::sys::capture::Bounds;

/// In front of every success and every error, as PM2 has it.
pub(super) const TAG: &str = "[PM3]";
pub(super) const ERROR: &str = "[PM3][ERROR] ";
pub(super) const WARN: &str = "[PM3][WARN] ";

/// What every verb is told beside its own words.
#[derive(Debug)]
pub(super) struct Context {
    /// `--socket`.
    pub(super) socket: Option<PathBuf>,
    /// Of standard output.
    pub(super) style: Style,
}

impl Context {
    /// Asks the supervisor that is running; a failure becomes the report of it.
    pub(super) fn ask(&self, ask: impl FnOnce(&mut Client) -> Result<Report, Error>) -> Report {
        let answered = self.connect().and_then(|mut client| ask(&mut client));
        answered.unwrap_or_else(|error| Report::failed(exit_of(&error), error))
    }

    /// Connects to the supervisor that is meant. It starts none.
    ///
    /// # Errors
    /// Nobody is there, or nobody who may be asked.
    pub(super) fn connect(&self) -> Result<Client, Error> {
        let facts = self.places();
        Client::connect(&place::of_client(&facts, sys::place::init_uid()), facts.uid, peer)
    }

    /// What the places of the control socket and pm3's home depend on.
    pub(super) fn places(&self) -> Facts {
        let uid = sys::place::uid();
        Facts::new(uid, sys::place::pid_namespace(), self.socket.clone(), |name| std::env::var_os(name))
    }
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let sys::socket::Peer { pid, uid, .. } = sys::socket::peer(stream)?;
    Ok(Peer { pid, uid })
}

/// How a verb ends that could not ask, or was refused.
pub(super) fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Nobody(_) | Error::Silent(..) | Error::Lost(..) => Exit::NoSupervisor,
        Error::Denied(..) | Error::Foreign(..) => Exit::NotAllowed,
        Error::Malformed(..) => Exit::Protocol,
        Error::Unsendable(_) => Exit::Usage,
        Error::Refused(refusal) => match refusal.problem {
            Problem::Stranger | Problem::NotAllowed => Exit::NotAllowed,
            Problem::Busy => Exit::NoSupervisor,
            Problem::Full => Exit::Failed,
            Problem::Garbled | Problem::Version | Problem::TooLong | Problem::Other => Exit::Protocol,
        },
    }
}

/// Runs the user's node, for a file of apps that is a script.
pub(super) fn node(words: &[&OsStr], complete: config::Complete<'_>) -> Result<Vec<u8>, String> {
    let bounds = Bounds { patience: config::NODE_PATIENCE, most: config::OUTPUT_MAX };
    sys::capture::run("node", words, bounds, complete)
}

/// What a file's meaning depends on, on this machine and for this caller.
pub(super) fn facts() -> config::Facts {
    let start_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
    config::Facts::new(sys::cgroup::cpus(), sys::cgroup::memory_limit(), std::env::vars_os(), start_dir)
}
