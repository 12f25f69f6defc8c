//! An app from the options of a command line, by the same table of keys as a file. A mistake names the option as it was
//! typed: `--max-memory-restart 20X: expected …`. Text stands as it is: a shell has replaced its variables already.

use super::mistakes::Origin;
use super::reader::Reader;
use super::tree::{Entry, Node, Span, Table, Tree};
use super::value::Dialect;
use super::{Facts, Mistake, anchor, schema, write};
use crate::supervisor::spec::AppSpec;

/// An option of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<'a> {
    /// As it was typed, for messages: `--max-memory-restart`, `-i`; empty for the script itself, which has no option.
    pub option: &'a str,
    /// The key of an app that it sets: `max_memory_restart`, `instances`, `script`.
    pub key: &'static str,
    pub value: Typed<'a>,
}

/// What an option says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed<'a> {
    /// By being there: `--watch`, or false for `--no-autorestart`.
    Flag(bool),
    /// The words after it. One that stands alone may be a list or a command line in itself: `--node-args "-r x"`.
    Text(&'a str),
    /// Words that are never split: what follows `--`, several values of one option.
    List(Vec<&'a str>),
}

/// The app that options describe, on its way to a supervisor: its directory is absolute, `facts.start_dir` where no
/// `cwd` is given. Its name is made of the script where none is given. Whether script, interpreter and user exist is not
/// looked at; see [`absent`](super::absent).
pub fn of_options(given: &[Given<'_>], facts: &Facts) -> Result<AppSpec, Vec<Mistake>> {
    let mut line = Line::default();
    let table = given.iter().map(|given| line.entry(given)).collect();
    let mut app = [read(Dialect::Options, &line.text, table, facts)?];
    anchor(&mut app, &facts.start_dir);
    let [app] = app;
    Ok(app)
}

/// An app with some of its settings replaced, for `restart NAME --option`: everything that `given` does not set stays.
/// The app should be [`anchor`]ed, for relative paths among the options start in its directory.
pub fn overlay(app: &AppSpec, given: &[Given<'_>], facts: &Facts) -> Result<AppSpec, Vec<Mistake>> {
    let mut line = Line::default();
    let typed: Table = given.iter().map(|given| line.entry(given)).collect();
    let row = |name: &str| schema::find(schema::APP, name).map(|key| key.name);
    let replaced: Vec<_> = typed.iter().map(|entry| row(&entry.name)).collect();
    let stays = |name: &str| !replaced.contains(&row(name));
    let kept = write::table(app).into_iter().filter(|(name, _)| stays(name));
    let table = kept.map(|(name, tree)| line.kept(name, tree)).chain(typed).collect();
    read(Dialect::Spec, &line.text, table, facts)
}

fn read(dialect: Dialect, text: &str, table: Table, facts: &Facts) -> Result<AppSpec, Vec<Mistake>> {
    let mut reader = Reader::new(dialect, Origin::Options { text }, None, facts);
    let app = reader.app("", 0, &table);
    let names = |names: super::several::Names| names.0.into_iter().map(|(name, _)| name).collect();
    let spec = AppSpec { after: names(app.after), requires: names(app.requires), ..app.spec };
    if reader.found.is_empty() { Ok(spec) } else { Err(reader.found.into_list()) }
}

/// A command line in the making: the options and values as one text, so that each has its place.
#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    fn word(&mut self, word: &str) -> Span {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(word);
        start..self.text.len()
    }

    fn entry(&mut self, given: &Given<'_>) -> Entry {
        let at = self.word(given.option);
        let node = match &given.value {
            Typed::Flag(flag) => Node { tree: Tree::Flag(*flag), span: at.end..at.end },
            Typed::Text(text) => self.node(text),
            Typed::List(words) => {
                let list: Vec<Node> = words.iter().map(|word| self.node(word)).collect();
                let start = list.first().map_or(at.end, |first| first.span.start);
                Node { tree: Tree::List(list), span: start..self.text.len() }
            }
        };
        Entry { name: given.key.to_owned(), at, node }
    }

    fn node(&mut self, word: &str) -> Node {
        let span = self.word(word);
        Node { tree: Tree::Text(word.to_owned()), span }
    }

    /// A setting that stays: a mistake that it has part in shows its key.
    fn kept(&mut self, name: &str, tree: Tree) -> Entry {
        let at = self.word(name);
        Entry { name: name.to_owned(), node: Node { tree, span: at.end..at.end }, at }
    }
}
