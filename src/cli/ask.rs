//! What verbs share when they ask a supervisor: which one is meant, how its answer will be seen, and which exit code a
//! failure to ask is.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::view::Style;
use super::{Exit, Report};
use crate::config;
use crate::control::client::{Client, Error, Peer};
use crate::control::place::{self, Facts};
use crate::control::{Problem, Row};
use crate::sys;
use crate::sys::capture::Bounds;
use crate::sys::users::{self, Users};

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
            Problem::Full | Problem::TooLong => Exit::Failed,
            Problem::Garbled | Problem::Version | Problem::Other => Exit::Protocol,
        },
    }
}

/// Calls the users of these rows by name, as PM2 does, where `read` finds one: an app may name its user by number.
pub(super) fn name_users<'a>(rows: impl Iterator<Item = &'a mut Row>, read: impl Fn() -> Users) {
    let mut users = None;
    for row in rows {
        let Some(uid) = users::id(&row.user) else { continue };
        if let Some(user) = users.get_or_insert_with(&read).by_uid(uid) {
            row.user = user.name;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Refusal;

    #[test]
    fn a_refusal_is_told_by_its_exit_code() {
        let exit = |problem| exit_of(&Error::Refused(Refusal { problem, why: "".into(), hint: "".into() }));
        assert_eq!((exit(Problem::Stranger), exit(Problem::NotAllowed)), (Exit::NotAllowed, Exit::NotAllowed));
        assert_eq!((exit(Problem::Busy), exit(Problem::Garbled)), (Exit::NoSupervisor, Exit::Protocol));
        // It was understood, and is too much at once.
        assert_eq!((exit(Problem::TooLong), exit(Problem::Full)), (Exit::Failed, Exit::Failed));
    }

    #[test]
    fn users_are_called_by_name_where_they_have_one() {
        let users = ["65534", "7", "www", "0", "-1"].map(|user| Row { user: user.into(), ..Row::default() });
        let mut rows = users.clone();
        name_users(rows.iter_mut(), || Users::parse("root:x:0:0::/:\nnobody:x:65534:65534::/:\n", ""));
        assert_eq!(rows.map(|row| row.user), ["nobody", "7", "www", "root", "-1"].map(Box::from));
    }
}
