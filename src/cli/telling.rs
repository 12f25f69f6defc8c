//! What a verb says of what it did, in PM2's words: a line for each thing done, one for each that was not, the notes of the
//! supervisor, and at the end the table, as PM2's users expect after every change.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::ask::{Context, ERROR, TAG, exit_of};
use super::underway::{Said, Underway};
use super::{Exit, Report, targets, verbs};
use crate::control::Row;
use crate::control::client::{Client, Error};
use crate::supervisor::event::Outcome;

/// How much is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Show {
    /// Say nothing but errors.
    #[arg(from_global)]
    pub(super) silent: bool,

    /// A list of a few lines for each app in place of the table
    #[arg(short, long = "mini-list")]
    pub(super) mini_list: bool,
}

/// What has been said so far.
#[derive(Debug)]
pub(super) struct Telling {
    out: String,
    err: String,
    exit: Exit,
    /// The instances that there were and are: an answer tells names, and PM2 shows ids too.
    rows: Vec<Row>,
    /// A supervisor was asked to change something.
    asked: bool,
    /// The names of apps with which something was done.
    names: BTreeSet<String>,
    show: Show,
}

impl Telling {
    /// `rows` are the instances that there are.
    pub(super) fn new(rows: Vec<Row>, show: &Show) -> Telling {
        let (out, err, show) = (String::new(), String::new(), show.clone());
        Telling { out, err, exit: Exit::Done, rows, asked: false, names: BTreeSet::new(), show }
    }

    /// The instances that there were at first, and those that came since.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A line of success, or about what is done now.
    pub(super) fn say(&mut self, text: impl Display) {
        self.out.push_str(&format!("{TAG} {text}\n"));
    }

    /// A line that is no failure and must not be missed.
    pub(super) fn warn(&mut self, text: impl Display) {
        if self.show.silent {
            return;
        }
        self.err.push_str(&format!("{TAG}[WARN] {text}\n"));
    }

    /// A failure; the first one decides the exit code.
    pub(super) fn fail(&mut self, exit: Exit, why: impl Display) {
        self.err.push_str(&format!("{ERROR}{why}\n"));
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }

    /// The names of apps with which something was done.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.exit != Exit::Done
    }

    /// Asks, and says what came of it. Returns whether anything was done.
    pub(super) fn ask(&mut self, client: &mut Client, ask: impl FnOnce(&mut Client) -> Result<Outcome, Error>) -> bool {
        self.asked = true;
        let (answer, said) = if self.show.silent { (ask(client), Said::default()) } else { self.follow(client, ask) };
        match answer {
            Ok(outcome) => {
                self.outcome(&outcome, &said, client);
                !outcome.done.is_empty()
            }
            Err(error) => {
                self.fail(exit_of(&error), error);
                false
            }
        }
    }

    /// Asks, and says what happens until there is an answer. What was said before is written before.
    fn follow(
        &mut self,
        client: &mut Client,
        ask: impl FnOnce(&mut Client) -> Result<Outcome, Error>,
    ) -> (Result<Outcome, Error>, Said) {
        self.tell_warnings();
        let mut stdout = io::stdout();
        if stdout.write_all(self.out.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // Whether that matters is found out at the end, when it is written again.
            return (ask(client), Said::default());
        }
        self.out.clear();
        let underway = Arc::new(Mutex::new(Underway::new(&self.rows)));
        let told = Arc::clone(&underway);
        client.follow(Some(Box::new(move |news| {
            if let Ok(mut underway) = told.lock() {
                underway.tell(&news);
            }
        })));
        let answer = ask(client);
        client.follow(None);
        let underway = Arc::into_inner(underway).and_then(|underway| underway.into_inner().ok());
        (answer, underway.map(Underway::end).unwrap_or_default())
    }

    /// Asks for something that is to be done with those whom these words mean. Where they mean nobody nothing changes,
    /// and a table would only bury the line that says so.
    pub(super) fn ask_of(
        &mut self,
        words: &[&str],
        client: &mut Client,
        ask: impl FnOnce(&mut Client) -> Result<Outcome, Error>,
    ) {
        let shown = self.asked || words.iter().any(|word| targets::is_known(word, &self.rows));
        self.ask(client, ask);
        self.asked = shown;
    }

    fn outcome(&mut self, outcome: &Outcome, said: &Said, client: &mut Client) {
        if outcome.done.iter().any(|who| row_of(who, &self.rows).is_none()) {
            // Some are new. pm3 may have ended since; then they are told without their ids.
            self.rows = client.list().unwrap_or_default().into_iter().chain(self.rows.drain(..)).collect();
        }
        // They come in the order in which they were done, which is anybody's guess.
        let mut done: Vec<(Option<u32>, String)> = Vec::new();
        for who in &outcome.done {
            done.push(match row_of(who, &self.rows) {
                Some(row) => (Some(row.id), format!("[{}]({}) ✓", row.name, row.id)),
                None => (None, format!("[{who}] ✓")),
            });
        }
        let rows = outcome.done.iter().filter_map(|who| row_of(who, &self.rows));
        self.names.extend(rows.map(|row| row.name.to_string()));
        done.retain(|(id, _)| id.is_none_or(|id| !said.done.contains(&id)));
        done.sort();
        done.iter().for_each(|(_, line)| self.say(line));
        outcome.said.iter().for_each(|note| self.say(note));
        for why in &outcome.failed {
            if said.failed.contains(why) {
                self.exit = if self.exit == Exit::Done { Exit::Failed } else { self.exit };
            } else {
                self.fail(Exit::Failed, why);
            }
        }
    }

    /// Says whose output is lost, of those with which something was done.
    pub(super) fn warn_of_lost_output(&mut self, client: &Client) {
        if self.names.is_empty() || self.show.silent {
            return;
        }
        let lost = match client.lost() {
            Ok(lost) => lost,
            Err(error) => return self.warn(format_args!("it is not known whether output arrives: {error}")),
        };
        for name in self.names() {
            let mut own = lost.iter().filter(|lost| *lost.app == *name);
            let Some(first) = own.next() else { continue };
            let more = match own.count() {
                0 => String::new(),
                more => format!(", and {more} more; see `pm3 show {name}`"),
            };
            self.warn(format_args!("[{name}] runs, but its output is lost: {}{more}", first.why));
        }
    }

    /// Writes what is no success and not written yet, before this process becomes another.
    pub(super) fn tell_warnings(&mut self) {
        let _ = std::io::stderr().write_all(std::mem::take(&mut self.err).as_bytes());
    }

    /// Ends with the table of what there is now, where anything may have changed.
    pub(super) fn with_table(mut self, client: &mut Client, context: &Context) -> Report {
        if self.asked && !self.show.silent {
            self.out += &verbs::list::after_change(client, context.style, self.show.mini_list);
        }
        self.report()
    }

    pub(super) fn report(self) -> Report {
        Report { out: self.out, err: self.err, exit: self.exit }
    }
}

/// The instance that is called `web`, or `web-1` where there are several.
fn row_of<'a>(who: &str, rows: &'a [Row]) -> Option<&'a Row> {
    let numbered = || {
        let (name, index) = who.rsplit_once('-')?;
        let index: u32 = index.parse().ok()?;
        rows.iter().find(|row| *row.name == *name && row.index == index)
    };
    rows.iter().find(|row| *row.name == *who).or_else(numbered)
}
