//! `pm3 send` and `pm3 attach`: what people type becomes an app's input, a line at a time, where the app has one
//! (`stdin = "pipe"`). Attaching shows its output besides, and ends when the app is deleted; whoever leaves before leaves it
//! running.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::logs;
use crate::cli::ask::{Context, ERROR, WARN, exit_of};
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, Report, targets};
use crate::control::client::{Client, Error, words};
use crate::control::limits::TEXT_MAX;
use crate::control::{Problem, Row, unsendable};
use crate::supervisor::spec::Input;

/// Send a line to the stdin of an app
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "The app needs an input: `pm3 start APP --stdin pipe`, or `pm3 restart NAME --stdin pipe`.\n\n\
                        Examples:\n  pm3 send 0 reload\n  pm3 send console say hello to all")]
pub(in crate::cli) struct Send {
    /// A name, a namespace or an id of apps, all, or /REGEX/
    #[arg(value_name = "TARGET")]
    target: String,

    /// The line; several words are sent with a blank between them
    #[arg(required = true, value_name = "TEXT", trailing_var_arg = true, allow_hyphen_values = true)]
    text: Vec<String>,
}

/// Type to an app, and see what it writes; ^C leaves it running
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "The app needs an input: `pm3 start APP --stdin pipe`, or `pm3 restart NAME --stdin pipe`.\n\n\
                        Examples:\n  pm3 attach console\n  pm3 attach 0 < commands.txt")]
pub(in crate::cli) struct Attach {
    /// A name of an app with one instance, or an id
    #[arg(value_name = "TARGET")]
    target: String,
}

/// How long an app that does not read is left alone before the line is sent again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LAST_WAIT: Duration = Duration::from_millis(250);

pub(super) fn send(args: &Send, context: &Context) -> Report {
    let text = args.text.join(" ");
    if let Some(why) = unsendable(&text) {
        return Report::failed(Exit::Usage, why);
    }
    context.ask(|client| {
        // It is answered at once: there is nothing to tell on the way.
        let mut telling = Telling::new(client.list()?, &Show { silent: true, ..Show::default() });
        let mut failed = Vec::new();
        let targets = targets::for_supervisor([&*args.target], telling.rows(), &mut failed);
        failed.iter().for_each(|why| telling.fail(Exit::Failed, why));
        for target in targets {
            telling.ask(client, |client| client.send(target, text.as_str().into()));
        }
        Ok(telling.report())
    })
}

pub(super) fn attach(args: &Attach, context: &Context) -> Report {
    let attached = context.connect().and_then(|mut client| {
        let rows = client.list()?;
        let (id, name) = match only(&args.target, &rows) {
            Ok(row) => (row.id, row.name.clone()),
            Err(why) => return Ok(Report::failed(Exit::Failed, why)),
        };
        let target: Box<str> = id.to_string().into();
        let (described, _) = client.describe(vec![target.clone()], false)?;
        let stdin = described.first().and_then(|one| one.spec.launch.rare.as_deref()).map(|rare| rare.stdin);
        if stdin.unwrap_or_default() == Input::Null {
            let why = format!(
                "{name}: reads /dev/null; `pm3 restart {name} --stdin pipe` starts it with an input, \
                 `pm3 logs {name} --raw` shows what it writes"
            );
            return Ok(Report::failed(Exit::Failed, why));
        }
        // Typed lines are sent once the output is followed: so nothing of an answer is missed.
        let hand = Hand { client: None, target: target.clone(), socket: context.socket.clone() };
        logs::follow_one(target, &client, context.style, || {
            std::thread::spawn(move || hand.pass_on(&mut io::stdin().lock()));
        })
    });
    attached.unwrap_or_else(|error| Report::failed(exit_of(&error), error))
}

/// The one instance that is meant.
fn only<'a>(word: &str, rows: &'a [Row]) -> Result<&'a Row, String> {
    let found = targets::resolve(word, rows)?;
    match found[..] {
        [] => Err(format!("{word}: no such app, namespace or id; `pm3 list` shows what there is")),
        [row] => Ok(row),
        [first, ..] => {
            let ids: Vec<String> = found.iter().map(|row| row.id.to_string()).collect();
            let (count, ids) = (found.len(), ids.join(", "));
            Err(format!("{word}: {count} instances are meant (ids {ids}); name one, as in `pm3 attach {}`", first.id))
        }
    }
}

/// Hands lines on to an app.
struct Hand {
    /// A connection of its own, made when there is something to send.
    client: Option<Client>,
    target: Box<str>,
    socket: Option<std::path::PathBuf>,
}

impl Hand {
    /// Sends each line of `from` until there is no more. What goes wrong with one is said, and the next one is tried.
    fn pass_on(mut self, from: &mut impl BufRead) {
        loop {
            match next_line(from) {
                Ok(None) => return,
                Ok(Some(Ok(line))) => self.pass(line.into()),
                Ok(Some(Err(why))) => say(&format!("{ERROR}stdin: {why}")),
                Err(error) => return say(&format!("{ERROR}stdin: {}", words(&error))),
            }
        }
    }

    /// Sends a line; where the app does not read, it waits until it does, so that a long file arrives whole.
    fn pass(&mut self, line: Box<str>) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.send(line.clone()) {
                Ok(failed) => return failed.iter().for_each(|why| say(&format!("{ERROR}{why}"))),
                Err(Error::Refused(refusal)) if refusal.problem == Problem::Full => {
                    // A moment is nothing to tell of.
                    if wait < LAST_WAIT && wait * 2 >= LAST_WAIT {
                        say(&format!("{WARN}{}: waiting until it reads", refusal.why));
                    }
                    std::thread::sleep(wait);
                    wait = LAST_WAIT.min(wait * 2);
                }
                Err(error) => return say(&format!("{ERROR}{error}")),
            }
        }
    }

    /// Why it was not sent, if it was not. A connection on which nothing was asked for long may have been closed, and then
    /// nothing was done: a new one is tried, once.
    fn send(&mut self, line: Box<str>) -> Result<Vec<Box<str>>, Error> {
        let was_new = self.client.is_none();
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Context { socket: self.socket.clone(), style: Default::default() }.connect()?),
        };
        match client.send(self.target.clone(), line.clone()) {
            Ok(outcome) => Ok(outcome.failed),
            Err(Error::Lost(..)) if !was_new => {
                self.client = None;
                self.send(line)
            }
            Err(error) => Err(error),
        }
    }
}

/// The next line without its end, or why it cannot be sent; None: there is no more.
fn next_line(from: &mut impl BufRead) -> io::Result<Option<Result<String, String>>> {
    let mut line = Vec::new();
    // One more than may be sent, and the newline: enough to see what is too long, however long that is.
    let most = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX).saturating_add(2);
    from.by_ref().take(most).read_until(b'\n', &mut line)?;
    let ended = line.pop_if(|last| *last == b'\n').is_some();
    if line.is_empty() && !ended {
        return Ok(None);
    }
    if line.len() > TEXT_MAX {
        if !ended {
            from.skip_until(b'\n')?;
        }
        return Ok(Some(Err(format!("a line of more than {TEXT_MAX} bytes was not sent"))));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| "a line that is not UTF-8 was not sent".to_owned())))
}

/// The terminal may be gone; there is nobody to tell then.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lines_are_taken_whole_and_what_cannot_be_sent_is_passed_over() {
        let (long, longest) = ("x".repeat(3 * TEXT_MAX), "y".repeat(TEXT_MAX));
        let mut text = format!("a\n\n{long}\n{longest}\n{longest}z\n").into_bytes();
        text.extend(b"\xff\n no end ");
        let mut from = io::BufReader::with_capacity(7, &text[..]);
        let mut next = || next_line(&mut from).unwrap();
        assert_eq!(next(), Some(Ok("a".to_owned())));
        assert_eq!(next(), Some(Ok(String::new())));
        assert!(next().unwrap().unwrap_err().contains("more than 4095 bytes"));
        assert_eq!(next(), Some(Ok(longest.clone())));
        assert!(next().unwrap().unwrap_err().contains("more than 4095 bytes"));
        assert!(next().unwrap().unwrap_err().contains("not UTF-8"));
        assert_eq!(next(), Some(Ok(" no end ".to_owned())));
        assert_eq!(next(), None);
    }

    #[test]
    fn one_instance_is_meant() {
        let row = |id, name: &str| Row { id, name: name.into(), ..Row::default() };
        let rows = [row(0, "web"), row(1, "web"), row(5, "job")];
        assert_eq!(only("job", &rows).unwrap().id, 5);
        assert_eq!(only("1", &rows).unwrap().id, 1);
        assert_eq!(
            only("web", &rows).unwrap_err(),
            "web: 2 instances are meant (ids 0, 1); name one, as in `pm3 attach 0`"
        );
        assert!(only("nobody", &rows).unwrap_err().contains("no such app"));
    }
}
