//! What each verb does: asks the supervisor, and puts the answer into PM2's words. Every change is followed by the
//! table, as PM2's users expect.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::args::{Targets, Verb};
use super::table::{self, Style};
use super::{Exit, Report};
use crate::config;
use crate::control::client::{Client, Error, Peer};
use crate::control::place::{self, Facts};
use crate::control::{Problem, Row};
use crate::supervisor::event::Verb as Operation;
use crate::sys;

/// In front of every success and every error, as PM2 has it.
const TAG: &str = "[PM3]";
pub(super) const ERROR: &str = "[PM3][ERROR] ";

pub(super) fn perform(verb: Verb, socket: Option<PathBuf>, style: Style) -> Report {
    let asked = |ask: &dyn Fn(&mut Client) -> Result<Report, Error>| {
        let answered = connect(socket).and_then(|mut client| ask(&mut client));
        answered.unwrap_or_else(|error| Report::failed(exit_of(&error), error))
    };
    match verb {
        Verb::Check { keys: true, .. } => Report::done(config::keys()),
        Verb::Check { file, config, env, keys: false } => check(file.or(config).as_deref(), env.as_deref()),
        Verb::List { json } => asked(&|client| list(client, json, style)),
        Verb::Start(of) => asked(&|client| operate(client, Operation::Start, &of, style)),
        Verb::Stop(of) => asked(&|client| operate(client, Operation::Stop, &of, style)),
        Verb::Restart(of) => asked(&|client| operate(client, Operation::Restart, &of, style)),
        Verb::Ping => asked(&ping),
    }
}

/// The plan that a file is, or every mistake in it.
fn check(file: Option<&Path>, profile: Option<&str>) -> Report {
    let start_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let facts = config::Facts::new(sys::cgroup::cpus(), sys::cgroup::memory_limit(), std::env::vars_os(), start_dir);
    let file = match config::find(file, &facts) {
        Ok(file) => file,
        Err(why) => return Report::failed(Exit::Config, why),
    };
    match config::check(&file, profile, &facts) {
        Ok(plan) => Report::done(plan),
        Err(mistakes) => {
            let err = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            Report { out: String::new(), err, exit: Exit::Config }
        }
    }
}

fn connect(socket: Option<PathBuf>) -> Result<Client, Error> {
    let uid = sys::place::uid();
    let facts = Facts::new(uid, sys::place::pid_namespace(), socket, |name| std::env::var_os(name));
    Client::connect(&place::of_client(&facts, sys::place::init_uid()), uid, peer)
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let sys::socket::Peer { pid, uid, .. } = sys::socket::peer(stream)?;
    Ok(Peer { pid, uid })
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Nobody(_) | Error::Silent(..) | Error::Lost(..) => Exit::NoSupervisor,
        Error::Denied(..) | Error::Foreign(..) => Exit::NotAllowed,
        Error::Malformed(..) => Exit::Protocol,
        Error::Unsendable(_) => Exit::Usage,
        Error::Refused(refusal) => match refusal.problem {
            Problem::Stranger | Problem::NotAllowed => Exit::NotAllowed,
            Problem::Busy => Exit::NoSupervisor,
            Problem::Garbled | Problem::Version | Problem::TooLong | Problem::Other => Exit::Protocol,
        },
    }
}

fn ping(client: &mut Client) -> Result<Report, Error> {
    // Connecting has asked already.
    Ok(Report::done(format!("pong from pm3 {}, pid {}, at {}\n", client.release, client.pid, client.address)))
}

fn list(client: &mut Client, json: bool, style: Style) -> Result<Report, Error> {
    let rows = client.list()?;
    Ok(Report::done(if json { json_of(&rows) } else { table::render(&rows, style) }))
}

fn json_of(rows: &[Row]) -> String {
    // Rows are plain data with text for keys: writing them cannot fail.
    let mut text = serde_json::to_string_pretty(rows).unwrap_or_default();
    text.push('\n');
    text
}

fn operate(client: &mut Client, verb: Operation, of: &Targets, style: Style) -> Result<Report, Error> {
    let outcome = client.operate(verb, of.targets.iter().map(|target| target.as_str().into()).collect())?;
    let done: String = outcome.done.iter().map(|who| format!("{TAG} [{who}] ✓\n")).collect();
    let err: String = outcome.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
    let exit = if outcome.failed.is_empty() { Exit::Done } else { Exit::Failed };
    // What was asked for is done. Without apps to run pm3 may have ended since: then there is no table to show.
    let table = client.list().map(|rows| table::render(&rows, style)).unwrap_or_default();
    Ok(Report { out: done + &table, err, exit })
}
