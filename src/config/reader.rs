//! One table of a tree, read by the rows of `schema`: an app, or pm3's own settings. Reading goes on after a mistake, so
//! that all are found in one go. Whatever the tree was made of, a file or a command line, comes through here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::app::{self, Clash, Draft};
use super::kinds::Instances;
use super::mistakes::{self, Mistakes, Origin, short};
use super::schema::{self, Key};
use super::together::App;
use super::tree::{Entry, Span, Table, Tree};
use super::value::{Dialect, Scope, Val, Wrong};
use super::words::Dollars;
use super::{Facts, Mistake, Place, words, world};
use crate::supervisor::spec::Settings;

/// Keys that are read first, in this order: what comes later may name the variables that they set, and `port` is set
/// over `env`.
const FIRST: [&str; 6] = ["cwd", "shell_env", "env_file", "env", "env_<profile>", "port"];

/// Reads tables, and holds what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) dialect: Dialect,
    pub(super) profile: Option<&'a str>,
    pub(super) facts: &'a Facts,
    pub(super) found: Mistakes<'a>,
    /// Keys that only PM2 has a use for, in a file that was written for it.
    pub(super) passed_over: BTreeSet<&'a str>,
    /// What is no mistake, and perhaps not what was meant.
    pub(super) notes: Vec<String>,
}

/// The keys of a table that have a row, by the row's name; several for `env_<profile>`.
type Entries<'t, T> = BTreeMap<&'static str, Vec<(&'t Entry, &'static Key<T>)>>;

impl<'a> Reader<'a> {
    pub(super) fn new(dialect: Dialect, origin: Origin<'a>, profile: Option<&'a str>, facts: &'a Facts) -> Reader<'a> {
        let found = Mistakes::new(origin);
        Reader { dialect, profile, facts, found, passed_over: BTreeSet::new(), notes: Vec::new() }
    }

    fn scope(&self) -> Scope<'a> {
        let (own, shell) = (BTreeMap::new(), Vec::new());
        Scope { facts: self.facts, shell, own, dollars: self.dialect.dollars(), dialect: self.dialect }
    }

    pub(super) fn settings(&mut self, table: &'a Table, settings: &mut Settings) {
        let scope = self.scope();
        let entries = self.entries(table, schema::SETTINGS, "pm3");
        for (entry, key) in entries.values().flatten() {
            self.read(entry, key, settings, &scope, "pm3");
        }
        for path in [&mut settings.runtime_dir, &mut settings.termination_log].into_iter().flatten() {
            *path = self.facts.start_dir.join(&**path).to_string_lossy().into();
        }
    }

    /// The app that a table is; `who` it is called until its name is known to be good.
    pub(super) fn app(&mut self, who: &str, at: usize, table: &'a Table) -> App<'a> {
        let entries = self.entries(table, schema::APP, who);
        let mut draft = Draft::new(self.dialect);
        let mut bad = BTreeSet::new();
        let mut scope = self.scope();
        let mut turns: Vec<_> = entries.iter().collect();
        turns.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == *name).unwrap_or(FIRST.len()));
        for (name, (entry, key)) in turns.into_iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row))) {
            let applies = key.profile(&entry.name).is_none_or(|profile| Some(profile) == self.profile);
            scope.dollars = if applies { self.dialect.dollars() } else { Dollars::Kept };
            if !self.read(entry, key, &mut draft, &scope, who) {
                bad.insert(*name);
            }
            scope.shell.append(&mut draft.shell_env);
            let env = std::mem::take(&mut draft.env);
            scope.own.extend(env.into_iter().filter(|_| applies));
            let home = world::home(&draft.spec.launch, self.facts);
            for (path, span) in std::mem::take(&mut draft.env_files.0) {
                self.env_file(&home, &path, span.start, who, &mut scope);
            }
        }
        let (after, requires) = (std::mem::take(&mut draft.after), std::mem::take(&mut draft.requires));
        let (spec, clashes) = app::finish(draft, self.profile, &scope);
        for Clash { key, why } in clashes {
            let entry = entries.get(key).and_then(|rows| rows.first());
            // A key that is there and could not be read is not missing, too.
            let blamed = bad.contains(key) || key == "script" && bad.contains("command");
            match entry {
                _ if blamed => {}
                Some((entry, _)) => self.wrong(entry, who, None, &why),
                None => self.missing(at, who, &why),
            }
        }
        let rows = |name: &str| entries.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some((Entry { node, .. }, _)) = rows("instances").first() {
            let text = self.found.origin.text().get(node.span.clone()).unwrap_or_default();
            let note = Instances::note(text.trim_matches(['"', '\'']), self.facts);
            self.notes.extend(note.map(|note| format!("{who}: instances = {note}")));
        }
        let main_at = rows("main").first().map(|(entry, _)| entry.at.start).filter(|_| spec.main);
        let profiles = rows("env_<profile>").iter().filter_map(|(entry, key)| key.profile(&entry.name)).collect();
        App { spec, at, main_at, after, requires, profiles }
    }

    /// The keys of a table, each with its row; those without one are mistakes.
    fn entries<T>(&mut self, table: &'a Table, keys: &'static [Key<T>], who: &str) -> Entries<'a, T> {
        let mut entries: Entries<'a, T> = BTreeMap::new();
        // What is null is not there.
        for entry in table.iter().filter(|entry| !matches!(entry.node.tree, Tree::Nothing)) {
            if self.found.are_enough() {
                break;
            }
            let Some(key) = schema::find(keys, &entry.name) else {
                self.unknown(entry, keys, who);
                continue;
            };
            let rows = entries.entry(key.name).or_default();
            match rows.first() {
                Some((first, _)) if key.profile(&entry.name).is_none() => {
                    let why = match self.found.origin {
                        Origin::Options { .. } => format!("{who}{} is given twice", entry.name),
                        Origin::Text { .. } | Origin::Export { .. } => {
                            format!("{who}: {}: the same key as {}, which is set too", entry.name, first.name)
                        }
                    };
                    self.found.add(entry.at.start, why);
                }
                _ => rows.push((entry, key)),
            }
        }
        entries
    }

    fn unknown<T>(&mut self, entry: &'a Entry, keys: &'static [Key<T>], who: &str) {
        let name = &*entry.name;
        let of_pm3 = who == "pm3";
        if self.dialect == Dialect::Pm2 && !of_pm3 && schema::is_of_pm2_alone(name) {
            self.passed_over.insert(name);
            return;
        }
        let (apps, pm3) = self.dialect.parts();
        let why = match () {
            () if !of_pm3 && schema::find(schema::SETTINGS, name).is_some() => format!("belongs under {pm3}"),
            () if of_pm3 && schema::find(schema::APP, name).is_some() => format!("belongs under {apps}"),
            () => schema::unknown(keys, name),
        };
        let what = match self.found.origin {
            Origin::Options { text } => text.get(entry.at.clone()).unwrap_or(name).to_owned(),
            Origin::Text { .. } | Origin::Export { .. } => format!("{who}: {name}"),
        };
        self.found.add(entry.at.start, format!("{what}: {why}"));
    }

    /// Reads one value into its place; false if it is not as expected.
    fn read<T>(&mut self, entry: &Entry, key: &Key<T>, target: &mut T, scope: &Scope<'_>, who: &str) -> bool {
        let Err(wrongs) = (key.read)(target, &Val { node: &entry.node, scope }) else { return true };
        for Wrong { part, why } in wrongs {
            self.wrong(entry, who, part, &why.text(key.expects));
        }
        false
    }

    /// A mistake about a value or a part of it, which is shown.
    fn wrong(&mut self, entry: &Entry, who: &str, part: Option<(Span, String)>, why: &str) {
        let Entry { name, at, node } = entry;
        let text = self.found.origin.text();
        let shown = |span: &Span| text.get(span.clone()).map(short).unwrap_or_default();
        let message = match (self.found.origin, part) {
            // The option as it was typed, and its value.
            (Origin::Options { .. }, part) => {
                let value = part.map_or_else(|| node.span.clone(), |(span, _)| span);
                match format!("{} {}", shown(at), shown(&value)).trim() {
                    "" => format!("{name}: {why}"),
                    typed => format!("{typed}: {why}"),
                }
            }
            (Origin::Text { .. } | Origin::Export { .. }, Some((span, path))) => {
                return self.found.add(span.start, format!("{who}: {name}{path}: {why}"));
            }
            // Variables may be secrets, and a table's header says nothing.
            (Origin::Text { .. } | Origin::Export { .. }, None)
                if name.starts_with("env") || node.table().is_some() =>
            {
                format!("{who}: {name}: {why}")
            }
            (Origin::Text { .. } | Origin::Export { .. }, None) => {
                let value = shown(&node.span);
                let value = if value.is_empty() { value } else { format!(" = {value}") };
                format!("{who}: {name}{value}: {why}")
            }
        };
        self.found.add(at.start, message);
    }

    /// A mistake about a key that is not there.
    fn missing(&mut self, at: usize, who: &str, why: &str) {
        let message = match self.found.origin {
            Origin::Options { .. } => why.to_owned(),
            Origin::Text { .. } | Origin::Export { .. } => format!("{who}: {why}"),
        };
        self.found.add(at, message);
    }

    fn env_file(&mut self, home: &Path, path: &str, at: usize, who: &str, scope: &mut Scope<'_>) {
        let (path, optional) = path.strip_prefix('-').map_or((path, false), |path| (path, true));
        let full = home.join(path);
        if optional && !full.exists() {
            return;
        }
        let file = full.display().to_string();
        let text = match mistakes::text(&full) {
            Ok(text) => text,
            Err(problem) if problem.place == Place::Nowhere => {
                return self.found.add(at, format!("{who}: env_file: {file} {}", problem.why));
            }
            Err(problem) => return self.found.add_elsewhere(problem.at(&file)),
        };
        let (variables, bad) = words::env_lines(&text);
        scope.own.extend(variables);
        for (offset, why) in bad {
            if self.found.are_enough() {
                break;
            }
            let place = mistakes::place(&text, offset);
            self.found.add_elsewhere(Mistake { file: file.clone(), place, text: format!("{who}: {why}") });
        }
    }
}
