//! What apps read, of those that ask for it with `stdin = "pipe"`: init makes a pipe for each start, keeps the writing end,
//! and puts into it what clients send. It waits for no reader: a text goes into the pipe as a whole, or it is refused. The
//! pipe is a run's and not an instance's, and ends with it: no run reads what was meant for the one before it.

use std::os::fd::OwnedFd;

use super::Engine;
use super::pipes::no_pipe;
use crate::control::{Problem, Refusal, Reply, unsendable};
use crate::supervisor::event::{Failure, Outcome, RunId};
use crate::supervisor::instance::Instance;
use crate::supervisor::life::Phase;
use crate::supervisor::spec::{AppSpec, Input};
use crate::sys::fds::{self, Put};
use crate::sys::spawn::{Plan, Stdin};

/// The writing ends of runs that are not over, sorted by run. They are watched for nothing: an app that reads costs init no
/// wake-up.
#[derive(Debug, Default)]
pub(super) struct Inputs(Vec<(RunId, OwnedFd)>);

impl Inputs {
    pub(super) fn hold(&mut self, run: RunId, writer: OwnedFd) {
        let at = self.0.partition_point(|(of, _)| *of < run);
        self.0.insert(at, (run, writer));
    }

    /// Closes the run's: who reads it still, of what the run has left behind, is told that nothing follows.
    pub(super) fn close(&mut self, run: RunId) {
        self.0.retain(|(of, _)| *of != run);
    }

    /// How many descriptors they are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn of(&self, run: RunId) -> Option<&OwnedFd> {
        let at = self.0.binary_search_by_key(&run, |(of, _)| *of).ok()?;
        self.0.get(at).map(|(_, writer)| writer)
    }
}

/// What the app is to find as its stdin.
pub(super) fn wanted(app: &AppSpec) -> Input {
    app.launch.rare.as_deref().map_or_else(Input::default, |rare| rare.stdin)
}

/// Makes a run's pipe, and has it read from it.
///
/// # Errors
/// There is no descriptor left.
pub(super) fn lay(plan: &mut Plan) -> Result<OwnedFd, Failure> {
    let (reader, writer) = fds::input().map_err(no_pipe)?;
    plan.stdin = Stdin::Given(reader);
    Ok(writer)
}

/// The run that is sent to: of two, the newer one, but one that is online before one that is about to be.
fn listener(one: &Instance) -> Option<RunId> {
    let lives = one.life().into_iter().chain(one.second.as_deref().map(|second| &second.life));
    let up = lives.filter(|life| life.is_up_or_coming());
    up.max_by_key(|life| (life.phase == Phase::Online, life.run)).map(|life| life.run)
}

impl Engine {
    /// Sends a text to each instance of the target, with a newline behind it.
    pub(super) fn send_text(&self, target: Box<str>, text: &str) -> Reply {
        let mut outcome = Outcome::default();
        if let Some(why) = unsendable(text) {
            outcome.failed.push(why.into());
            return Reply::Outcome(outcome);
        }
        let line = format!("{text}\n");
        let mut full = 0;
        let ids = self.supervisor.resolve_all(&[target], &mut outcome);
        for (app, one) in self.supervisor.instances().filter(|(_, one)| ids.binary_search(&one.id).is_ok()) {
            match self.put(app, one, line.as_bytes()) {
                Ok(()) => outcome.done.push(one.who(app)),
                Err(Refused::Full) => {
                    full += 1;
                    outcome.failed.push(format!("{}: does not read its input, which is full", one.who(app)).into());
                }
                Err(Refused::For(why)) => {
                    let why = why.into();
                    // Said once of an app, however many instances it has; they come one after the other.
                    if outcome.failed.last() != Some(&why) {
                        outcome.failed.push(why);
                    }
                }
            }
        }
        match &outcome.failed[..] {
            // Nobody has got anything, so the same may be sent again.
            [why] if full == 1 && outcome.done.is_empty() => Reply::Error(Refusal {
                problem: Problem::Full,
                why: why.clone(),
                hint: "send again when it has read some".into(),
            }),
            _ => Reply::Outcome(outcome),
        }
    }

    fn put(&self, app: &AppSpec, one: &Instance, line: &[u8]) -> Result<(), Refused> {
        let name = &app.name;
        let run = listener(one);
        match run.and_then(|run| self.inputs.of(run)).map(|writer| fds::put(writer, line)) {
            Some(Put::Done) => Ok(()),
            Some(Put::Full) => Err(Refused::Full),
            Some(Put::Closed) => Err(Refused::For(format!("{}: has closed its input", one.who(app)))),
            None if wanted(app) == Input::Null => Err(Refused::For(format!(
                "{name}: reads /dev/null; `pm3 restart {name} --stdin pipe` starts it with an input that can be sent to"
            ))),
            None if one.is_online() => Err(Refused::For(format!(
                "{name}: this run was started without an input; `pm3 restart {name}` gives it one"
            ))),
            None => Err(Refused::For(format!("{}: is not online: nothing was sent", one.who(app)))),
        }
    }
}

/// Why an instance did not get a text.
enum Refused {
    /// Its pipe is full.
    Full,
    /// A line that says all.
    For(String),
}
