//! What is said of a request while it is under way. On a terminal: one line in place, of how far it is and what happens
//! just now, and above it what is done. Elsewhere: a line for each thing that happens, written at once. Nothing of it
//! is needed: what could not be written here is said at the end, and who asked for silence has none of this.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::ask::{ERROR, TAG};
use super::style;
use super::view::text::{cut, printable, span_in_words};
use crate::control::Row;
use crate::supervisor::event::{Progress, Step};
use crate::sys::signals;

/// Back to the start of the line, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The instances that are where the request sent them.
    pub(super) done: BTreeSet<u32>,
    pub(super) failed: Vec<Box<str>>,
}

/// Says what happens.
#[derive(Debug)]
pub(super) struct Underway {
    /// Columns of the terminal, where a line can be written over.
    width: Option<usize>,
    /// What stands in that line.
    status: String,
    said: Said,
    /// Of whom more was told than that it is done, or asked to end as the request wants it.
    on_the_way: BTreeSet<u32>,
    /// What the instances are called that there were before.
    names: Vec<(u32, Box<str>)>,
    /// Nobody reads.
    lost: bool,
}

/// Where a line is to be written.
enum To {
    Out,
    Err,
}

impl Underway {
    pub(super) fn new(rows: &[Row]) -> Underway {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let width = style().width.filter(|_| !dumb);
        signals::say_when_interrupted(match width {
            Some(_) => "\r\x1b[K[PM3] interrupted: what was asked for goes on; `pm3 list` shows how far it is\n",
            None => "[PM3] interrupted: what was asked for goes on; `pm3 list` shows how far it is\n",
        });
        let names = rows.iter().map(|row| (row.id, row.name.clone())).collect();
        Underway {
            width,
            status: String::new(),
            said: Said::default(),
            on_the_way: BTreeSet::new(),
            names,
            lost: false,
        }
    }

    /// Says what has happened.
    pub(super) fn tell(&mut self, news: &Progress) {
        let who = news.id.map(|id| id.0);
        let name = self.names.iter().find(|(id, _)| Some(*id) == who).map_or(&*news.app, |(_, name)| name);
        let subject = who.map(|id| format!("[{}]({id}) ", printable(name))).unwrap_or_default();
        let text = printable(&news.text).into_owned();
        self.status = format!("{TAG} {}/{} {subject}{text}", news.over, news.of);
        match news.step {
            Step::Asked | Step::Stops => {
                self.draw(None);
            }
            Step::Done => {
                let took = who.filter(|id| self.on_the_way.contains(id)).map(|_| span_in_words(news.after.0.into()));
                let took = took.map(|took| format!(" {took}")).unwrap_or_default();
                self.status = format!("{TAG} {}/{}", news.over, news.of);
                if self.draw(Some((To::Out, format!("{TAG} {subject}✓{took}\n")))) {
                    self.said.done.extend(who);
                }
            }
            Step::Failed => {
                self.status = format!("{TAG} {}/{}", news.over, news.of);
                if self.draw(Some((To::Err, format!("{ERROR}{text}\n")))) {
                    self.said.failed.push(news.text.clone());
                }
            }
            // That stays to be read.
            Step::Odd | Step::Waits => self.step(who, true, &subject, &text),
            Step::Starts | Step::Trial | Step::Online | Step::Drains | Step::Yields | Step::Other => {
                self.step(who, self.width.is_none(), &subject, &text)
            }
        }
    }

    fn step(&mut self, who: Option<u32>, stays: bool, subject: &str, text: &str) {
        self.on_the_way.extend(who);
        let line = (stays && !text.is_empty()).then(|| (To::Out, format!("{TAG} {subject}{text}\n")));
        self.draw(line);
    }

    /// Writes a line that stays, and under it, on a terminal, how far it is. False: nobody reads.
    fn draw(&mut self, line: Option<(To, String)>) -> bool {
        self.lost = self.lost || self.write(line).is_err();
        !self.lost
    }

    fn write(&mut self, line: Option<(To, String)>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.width.is_some() {
            out.write_all(CLEAR.as_bytes())?;
        }
        match line {
            Some((To::Out, line)) => out.write_all(line.as_bytes())?,
            Some((To::Err, line)) => {
                out.flush()?;
                io::stderr().write_all(line.as_bytes())?;
            }
            None => {}
        }
        if let Some(width) = self.width {
            // With room for the `^C` of a terminal: a line that wraps could not be taken back.
            out.write_all(cut(&self.status, width.saturating_sub(3)).as_bytes())?;
        }
        out.flush()
    }

    /// The reply is there.
    pub(super) fn end(mut self) -> Said {
        signals::say_nothing_when_interrupted();
        if self.width.is_some() && !self.status.is_empty() {
            self.status.clear();
            self.draw(None);
        }
        self.said
    }
}
