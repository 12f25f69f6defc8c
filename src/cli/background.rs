//! The supervisor in the background, that the first `pm3 start` starts: this program again as `pm3 init --background`, in
//! a session of its own, away from the terminal and the working directory, with its own lines in `<home>/pm3.log`.
//!
//! The client knows that it can be asked by an event, never by time: a byte on a pipe. Two clients that do this at the
//! same moment get one supervisor, because only one can have the socket; the other one leaves, and its client asks the
//! first. Nothing here ends a supervisor or touches an app.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Exit;
use super::ask::{Context, exit_of};
use super::telling::Telling;
use crate::control::client::{Client, Error};
use crate::control::place::{self, DIRECTORY_MODE, Facts};
use crate::control::{READY, TAKEN, client};
use crate::supervisor::event::Failure;
use crate::sys::spawn::{self, Child, KeepFds, Plan, Stream, c_string};
use crate::sys::users::Users;
use crate::sys::{self, again, dirs, fds};

/// The file of the supervisor's own lines, in pm3's home.
pub(super) const LOG: &str = "pm3.log";

/// How long a supervisor may take until it can be asked. It reads no file and starts no app before.
const PATIENCE: Duration = client::PATIENCE;

/// How often one is started anew that left because another was there, which then was not.
const TRIES: usize = 3;

/// How much is told of what it said when it did not come up: lines, and bytes that are looked through for them.
const LINES_TOLD: usize = 5;
const LOG_READ: u64 = 64 << 10;

/// Starts a supervisor, where nobody was found who could be asked, and connects to it; says so, or why there is none.
pub(super) fn start_one(context: &Context, telling: &mut Telling) -> Option<Client> {
    match start_and_connect(context, telling) {
        Ok(client) => return Some(client),
        Err(Trouble::Client(error)) => telling.fail(exit_of(&error), error),
        Err(Trouble::NotStarted(why)) => telling.fail(Exit::NoSupervisor, why),
    }
    None
}

fn start_and_connect(context: &Context, telling: &mut Telling) -> Result<Client, Trouble> {
    let facts = context.places();
    let home = home(&facts).map_err(Trouble::NotStarted)?;
    telling.say(format_args!("Spawning PM3 daemon with pm3_home={}", home.display()));
    if !has_terminal() {
        telling.warn(
            "in a container's entrypoint use `pm3 init FILE`, or `pm3 start … --no-daemon`: this returns at once",
        );
    }
    for _ in 0..TRIES {
        start(&home, &facts).map_err(Trouble::NotStarted)?;
        match context.connect() {
            Err(Error::Nobody(_)) => {}
            Err(error) => return Err(Trouble::Client(error)),
            Ok(client) => {
                telling.say("PM3 Successfully daemonized");
                return Ok(client);
            }
        }
    }
    Err(Trouble::NotStarted(format!("supervisors come and go here; see {}", home.join(LOG).display())))
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// Why there is no supervisor to ask.
#[derive(Debug)]
enum Trouble {
    /// There is one, or may be one.
    Client(Error),
    /// There was none, and none could be started.
    NotStarted(String),
}

/// pm3's home, see [`place::home`].
///
/// # Errors
/// This user has none; or it is root's, and others may write there: then what is in it may be anybody's.
pub(super) fn home(facts: &Facts) -> Result<PathBuf, String> {
    let passwd = || Users::read().by_uid(facts.uid).map(|user| PathBuf::from(&*user.home));
    let home = place::home(facts, passwd).ok_or_else(|| {
        format!("uid {} has no home directory; name one for pm3's files with PM3_HOME=/absolute/path", facts.uid)
    })?;
    let refused = dirs::refuse_shared(&home, true);
    refused.map_err(|error| format!("pm3's home {}: {}", home.display(), client::words(&error)))?;
    Ok(home)
}

/// Starts a supervisor and waits until it can be asked, or has left because another one can.
fn start(home: &Path, facts: &Facts) -> Result<(), String> {
    let made = dirs::make(home, DIRECTORY_MODE);
    made.map_err(|error| format!("cannot make pm3's home {}: {}", home.display(), client::words(&error)))?;
    let log = home.join(LOG);
    let old = fs::metadata(&log).map_or(0, |file| file.len());
    let answer = run(&log, facts).map_err(|why| format!("cannot start pm3 in the background: {why}"))?;
    match answer {
        Answer::Ready | Answer::Taken => Ok(()),
        Answer::Ended => Err(format!("pm3 could not work in the background, {}", last_words(&log, old))),
        Answer::Silent => Err(format!(
            "pm3 could not be asked within {} s; see {}, and end it with `kill` if it is there",
            PATIENCE.as_secs(),
            log.display()
        )),
    }
}

/// What came of a start.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Ready,
    /// Another one is there.
    Taken,
    Ended,
    Silent,
}

fn run(log: &Path, facts: &Facts) -> Result<Answer, String> {
    let told = |error: io::Error| client::words(&error);
    let (mut ready, theirs) = UnixStream::pair().map_err(told)?;
    fds::set_cloexec(theirs.as_fd(), false).map_err(told)?;
    let plan = plan(log, facts, theirs.as_raw_fd()).map_err(|failure| failure.to_string())?;
    // Signals are not blocked, as they are in init: this process has no handler that could run in the copy.
    let Child { status, .. } = spawn::spawn(&plan).map_err(|failure| failure.to_string())?;
    drop(theirs);
    spawn::executed(status).map_err(|failure| failure.to_string())?;
    ready.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let mut byte = [0];
    match ready.read(&mut byte) {
        Ok(1) if byte == [READY] => Ok(Answer::Ready),
        Ok(1) if byte == [TAKEN] => Ok(Answer::Taken),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Answer::Silent),
        Ok(_) | Err(_) => Ok(Answer::Ended),
    }
}

/// `ready` is the descriptor that tells.
fn plan(log: &Path, facts: &Facts, ready: RawFd) -> Result<Plan, Failure> {
    let mut argv = vec![c_string("pm3")?, c_string("init")?, c_string("--background")?];
    argv.push(c_string(format!("--ready-fd={ready}"))?);
    if let Some(socket) = &facts.socket {
        argv.push(c_string([b"--socket=", socket.as_os_str().as_bytes()].concat())?);
    }
    Ok(Plan {
        argv,
        candidates: vec![again::SELF.to_owned()],
        env: sys::place::environment(),
        cwd: Some(c_string("/")?),
        stdout: Stream::File(c_string(log.as_os_str().as_bytes())?),
        stderr: Stream::Stdout,
        keep_fds: KeepFds::Inherited,
        ..Plan::default()
    })
}

/// What a supervisor that ended has said since its log had this length.
fn last_words(log: &Path, since: u64) -> String {
    let mut said = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(since))?;
        file.take(LOG_READ).read_to_end(&mut said)
    });
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES_TOLD)..).unwrap_or_default();
    match read {
        Ok(_) if !last.is_empty() => format!("and said:\n  {}", last.join("\n  ")),
        Ok(_) | Err(_) => format!("and said nothing in {}", log.display()),
    }
}
