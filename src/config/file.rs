//! The whole file: toml's tree, read by the tables of `schema`; what apps mean for each other; and the place of each
//! mistake. Reading goes on after a mistake, so that all are found in one go; only a file that is no TOML ends earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::app::{self, Clash, Draft};
use super::kinds::Names;
use super::schema::{self, Key};
use super::value::{Refused, Scope, Val, Wrong};
use super::{Facts, Mistake, PACKED_MAX, pack, words};
use crate::supervisor::event::Size;
use crate::supervisor::graph;
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{AppSpec, Settings, Spec};

/// A larger file is not a configuration: reading it ends here.
const TEXT_MAX: u64 = 1 << 20;

/// More apps than this are a slip of a generator; an app is at least a process.
const APPS_MAX: usize = 4096;

/// More instances of all apps together do not fit beside other processes: Linux counts to 32768 by default.
const INSTANCES_MAX: u32 = 16_384;

/// Nobody reads more mistakes at once.
const MISTAKES_MAX: usize = 100;

/// A shown value is cut here.
const SHOWN_MAX: usize = 60;

/// Reads a text file of bounded size.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(TEXT_MAX + 1).read_to_end(&mut bytes)).map_err(|error| {
        let text = error.to_string();
        // "No such file or directory (os error 2)": a message here starts small and has no number.
        let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Problem { place: None, why: format!("cannot be read: {why}") }
    })?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Problem { place: None, why: format!("larger than {}: not a configuration", Size(TEXT_MAX)) });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default());
        Problem { place: Some(place(&before, valid)), why: "not UTF-8 from here on".into() }
    })
}

/// Why a file cannot be used, and where in it (None: as a whole).
pub(super) struct Problem {
    place: Option<(usize, usize)>,
    why: String,
}

impl Problem {
    pub(super) fn at(self, file: &str) -> Mistake {
        let (line, col) = self.place.unwrap_or((1, 1));
        Mistake { file: file.to_owned(), line, col, text: self.why }
    }
}

/// Line and column of a byte, from 1; within the text, whatever the offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let end = (0..=offset.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let before = text.get(..end).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// The plan that a text is. `file` is its name in messages; relative paths start at `facts.start_dir`.
pub fn parse(file: &str, text: &str, profile: Option<&str>, facts: &Facts) -> Result<Spec, Vec<Mistake>> {
    let mut reader = Reader { file, text, profile, facts, mistakes: Vec::new() };
    let (tree, errors) = DeTable::parse_recoverable(text);
    // What could be read of a broken file would only add mistakes that are none.
    for error in &errors {
        let span = error.span().unwrap_or_default();
        let what = match error.message() {
            // Anything else might show a secret that lacks its quotes.
            "duplicate key" => format!("duplicate key {}", text.get(span.clone()).unwrap_or_default()),
            other => other.to_owned(),
        };
        reader.mistake(span.start, what);
    }
    let spec = if errors.is_empty() { reader.document(tree.get_ref()) } else { Spec::default() };
    reader.finish(spec)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    profile: Option<&'a str>,
    facts: &'a Facts,
    mistakes: Vec<Mistake>,
}

/// A key as it stands in the file.
#[derive(Clone)]
struct Entry<'t> {
    written: &'t str,
    at: Range<usize>,
    node: &'t Spanned<DeValue<'t>>,
}

/// The keys of a table that have a row, by the row's name; several for `env_<profile>`.
type Entries<'t, T> = BTreeMap<&'static str, Vec<(Entry<'t>, &'static Key<T>)>>;

/// An app with the places that checks across apps point at.
struct App<'t> {
    spec: AppSpec,
    at: usize,
    main_at: Option<usize>,
    after: Names,
    requires: Names,
    profiles: Vec<&'t str>,
}

impl<'a> Reader<'a> {
    fn mistake(&mut self, offset: usize, text: impl Into<String>) {
        let (line, col) = place(self.text, offset);
        self.mistakes.push(Mistake { file: self.file.to_owned(), line, col, text: text.into() });
    }

    fn finish(mut self, spec: Spec) -> Result<Spec, Vec<Mistake>> {
        let packed = if self.mistakes.is_empty() { pack(&spec).len() } else { 0 };
        if packed > PACKED_MAX {
            let (size, most) = (Size(packed as u64), Size(PACKED_MAX as u64));
            self.mistake(
                0,
                format!("the plan takes {size}, more than the {most} that pm3 keeps in memory; use fewer apps"),
            );
        }
        if self.mistakes.is_empty() {
            return Ok(spec);
        }
        let mut mistakes = self.mistakes;
        // The file itself first, then those that it names.
        mistakes.sort_by_cached_key(|m| (m.file != self.file, m.file.clone(), m.line, m.col, m.text.clone()));
        mistakes.dedup();
        if mistakes.len() > MISTAKES_MAX {
            let more = mistakes.len() - MISTAKES_MAX;
            mistakes.truncate(MISTAKES_MAX);
            if let Some(last) = mistakes.last_mut() {
                last.text.push_str(&format!(" (and {more} more mistakes)"));
            }
        }
        Err(mistakes)
    }

    fn document<'t>(&mut self, tree: &'t DeTable<'t>) -> Spec {
        let mut settings = Settings { cwd: self.facts.start_dir.to_string_lossy().into(), ..Settings::default() };
        let mut apps = Vec::new();
        let mut named = false;
        for (name, node) in tree {
            let at = name.span().start;
            match (&**name.get_ref(), node.get_ref()) {
                ("pm3", DeValue::Table(table)) => self.settings(table, &mut settings),
                ("pm3", _) => self.mistake(at, "pm3: expected a table, [pm3]"),
                ("apps", DeValue::Array(list)) => {
                    named = true;
                    self.apps(list, &mut apps);
                }
                ("apps", _) => {
                    named = true;
                    self.mistake(at, "apps: expected [[apps]], in double brackets, once for each app");
                }
                (other, _) => {
                    let why = match nearest(other, ["apps", "pm3"]) {
                        _ if schema::find(schema::APP, other).is_some() => "belongs under [[apps]]".to_owned(),
                        _ if schema::find(schema::SETTINGS, other).is_some() => "belongs under [pm3]".to_owned(),
                        Some("apps") => "unknown, did you mean [[apps]]?".to_owned(),
                        Some(meant) => format!("unknown, did you mean [{meant}]?"),
                        None => "unknown; a file has [[apps]] and [pm3]".to_owned(),
                    };
                    self.mistake(at, format!("{other}: {why}"));
                }
            }
        }
        // Where apps were meant, what is wrong with them has been said.
        if apps.is_empty() && (!named || self.mistakes.is_empty()) {
            self.mistake(0, "no app in it; add [[apps]] with script = \"…\" or command = \"…\"");
        }
        self.together(&mut apps);
        Spec { apps: apps.into_iter().map(|app| app.spec).collect(), settings }
    }

    fn settings<'t>(&mut self, table: &'t DeTable<'t>, settings: &mut Settings) {
        let scope = Scope { facts: self.facts, own: Vec::new(), expands: true };
        let entries = self.entries(table, schema::SETTINGS, "pm3");
        for (entry, key) in entries.values().flatten() {
            self.read(entry, key, settings, &scope, "pm3");
        }
    }

    fn apps<'t>(&mut self, list: &'t [Spanned<DeValue<'t>>], apps: &mut Vec<App<'t>>) {
        for (index, node) in list.iter().enumerate() {
            let at = node.span().start;
            if index >= APPS_MAX {
                return self.mistake(at, format!("more than {APPS_MAX} apps"));
            }
            match node.get_ref().as_table() {
                Some(table) => apps.push(self.app(index, at, table)),
                None => self.mistake(at, format!("app {}: expected a table with script or command", index + 1)),
            }
        }
    }

    fn app<'t>(&mut self, index: usize, at: usize, table: &'t DeTable<'t>) -> App<'t> {
        let who = called(index, table);
        let entries = self.entries(table, schema::APP, &who);
        let mut draft = Draft::default();
        let mut bad = BTreeSet::new();
        let mut scope = Scope { facts: self.facts, own: Vec::new(), expands: true };
        // In this order, because variables of the app may be named in what comes later: first its files, then env,
        // the chosen profile's, and all the rest.
        for turn in [&["cwd", "env_file"][..], &["env"], &["env_<profile>"], &[]] {
            for (name, rows) in &entries {
                let first = ["cwd", "env_file", "env", "env_<profile>"].contains(name);
                if turn.contains(name) || turn.is_empty() && !first {
                    for (entry, key) in rows {
                        let chosen = key.profile(entry.written).is_none_or(|profile| Some(profile) == self.profile);
                        scope.expands = chosen;
                        if !self.read(entry, key, &mut draft, &scope, &who) {
                            bad.insert(*name);
                        }
                        scope.expands = true;
                        let env = std::mem::take(&mut draft.env);
                        env.into_iter().filter(|_| chosen).for_each(|(name, value)| scope.set(name, value));
                    }
                }
            }
            let files = std::mem::take(&mut draft.env_files);
            let home = self.facts.start_dir.join(draft.spec.launch.cwd.as_deref().unwrap_or_default());
            for (path, span) in files.0 {
                self.env_file(&home, &path, span.start, &who, &mut scope);
            }
        }
        let (after, requires) = (std::mem::take(&mut draft.after), std::mem::take(&mut draft.requires));
        let (spec, clashes) = app::finish(draft, &scope);
        for Clash { key, why } in clashes {
            let entry = entries.get(key).and_then(|rows| rows.first());
            // A key that is there and could not be read is not missing, too.
            let blamed = bad.contains(key) || key == "script" && bad.contains("command");
            match entry {
                _ if blamed => {}
                Some((entry, _)) => self.wrong(entry, &who, &why),
                None => self.mistake(at, format!("{who}: {why}")),
            }
        }
        let rows = |name: &str| entries.get(name).map(Vec::as_slice).unwrap_or_default();
        let main_at = rows("main").first().map(|(entry, _)| entry.at.start).filter(|_| spec.main);
        let profiles = rows("env_<profile>").iter().filter_map(|(entry, key)| key.profile(entry.written)).collect();
        App { spec, at, main_at, after, requires, profiles }
    }

    /// The keys of a table, each with its row; those without one are mistakes.
    fn entries<'t, T>(&mut self, table: &'t DeTable<'t>, keys: &'static [Key<T>], who: &str) -> Entries<'t, T> {
        let mut entries: Entries<'t, T> = BTreeMap::new();
        for (name, node) in table {
            let entry = Entry { written: name.get_ref(), at: name.span(), node };
            let Some(key) = schema::find(keys, entry.written) else {
                let elsewhere = |found: bool, table: &str| found.then(|| format!("belongs under {table}"));
                let why = elsewhere(who != "pm3" && schema::find(schema::SETTINGS, entry.written).is_some(), "[pm3]")
                    .or_else(|| {
                        elsewhere(who == "pm3" && schema::find(schema::APP, entry.written).is_some(), "[[apps]]")
                    })
                    .unwrap_or_else(|| schema::unknown(keys, entry.written));
                self.mistake(entry.at.start, format!("{who}: {}: {why}", entry.written));
                continue;
            };
            let rows = entries.entry(key.name).or_default();
            match rows.first() {
                Some((first, _)) if key.profile(entry.written).is_none() => {
                    let why = format!("{who}: {}: the same key as {}, which is set too", entry.written, first.written);
                    self.mistake(entry.at.start, why);
                }
                _ => rows.push((entry, key)),
            }
        }
        entries
    }

    /// Reads one value into its place; false if it is not as expected.
    fn read<T>(&mut self, entry: &Entry<'_>, key: &Key<T>, target: &mut T, scope: &Scope<'_>, who: &str) -> bool {
        let Err(wrongs) = (key.read)(target, &Val { node: entry.node, scope }) else { return true };
        for Wrong { part, why } in wrongs {
            let why = match why {
                Refused::Expected => format!("expected {}", (key.expects)()),
                Refused::Meant(meant) => format!("expected {}, did you mean {meant}?", (key.expects)()),
                Refused::Because(why) => why,
            };
            match part {
                Some((span, path)) => self.mistake(span.start, format!("{who}: {}{path}: {why}", entry.written)),
                None => self.wrong(entry, who, &why),
            }
        }
        false
    }

    /// A mistake about a whole value, which is shown.
    fn wrong(&mut self, entry: &Entry<'_>, who: &str, why: &str) {
        let Entry { written, at, node } = entry;
        // Variables may be secrets, and a table's header says nothing.
        let hidden = written.starts_with("env") || node.get_ref().is_table();
        let shown = self.text.get(node.span()).filter(|_| !hidden).map(|text| format!(" = {}", short(text)));
        let shown = shown.unwrap_or_default();
        self.mistake(at.start, format!("{who}: {written}{shown}: {why}"));
    }

    fn env_file(&mut self, home: &Path, path: &str, at: usize, who: &str, scope: &mut Scope<'_>) {
        let (path, optional) = path.strip_prefix('-').map_or((path, false), |path| (path, true));
        let full = home.join(path);
        if optional && !full.exists() {
            return;
        }
        let file = full.display().to_string();
        let text = match text(&full) {
            Ok(text) => text,
            Err(problem) if problem.place.is_none() => {
                return self.mistake(at, format!("{who}: env_file: {file} {}", problem.why));
            }
            Err(problem) => return self.mistakes.push(problem.at(&file)),
        };
        let (variables, bad) = words::env_lines(&text);
        variables.into_iter().for_each(|(name, value)| scope.set(name, value));
        for (offset, why) in bad {
            let (line, col) = place(&text, offset);
            self.mistakes.push(Mistake { file: file.clone(), line, col, text: format!("{who}: {why}") });
        }
    }

    /// What holds between apps.
    fn together(&mut self, apps: &mut [App<'_>]) {
        let mut places: BTreeMap<Box<str>, usize> = BTreeMap::new();
        for (index, app) in apps.iter().enumerate().filter(|(_, app)| !app.spec.name.is_empty()) {
            match places.get(&app.spec.name).and_then(|first| apps.get(*first)) {
                Some(first) => {
                    let (line, _) = place(self.text, first.at);
                    self.mistake(app.at, format!("{}: the app at line {line} has this name too", app.spec.name));
                }
                None => drop(places.insert(app.spec.name.clone(), index)),
            }
        }
        let mains: Vec<&App<'_>> = apps.iter().filter(|app| app.main_at.is_some()).collect();
        if let [first, others @ ..] = mains.as_slice() {
            for app in others {
                let why = format!(
                    "{}: main = true: {} is main already, and pm3 ends with one",
                    app.spec.name, first.spec.name
                );
                self.mistake(app.main_at.unwrap_or(app.at), why);
            }
        }
        let instances = apps.iter().fold(0u32, |sum, app| sum.saturating_add(app.spec.instances));
        if instances > INSTANCES_MAX {
            self.mistake(0, format!("{instances} instances of all apps together, more than {INSTANCES_MAX}"));
        }
        self.profile_is_known(apps);
        let edges: Vec<Vec<(usize, usize)>> = apps.iter().map(|app| self.edges(app, &places)).collect();
        self.cycles(apps, edges);
        for app in apps {
            let names = |names: &mut Names| std::mem::take(&mut names.0).into_iter().map(|(name, _)| name).collect();
            app.spec.after = names(&mut app.after);
            app.spec.requires = names(&mut app.requires);
        }
    }

    fn profile_is_known(&mut self, apps: &[App<'_>]) {
        let mut known = apps.iter().flat_map(|app| app.profiles.iter().copied());
        let Some(profile) = self.profile.filter(|profile| !known.any(|known| known == *profile)) else { return };
        let mut known: Vec<&str> = apps.iter().flat_map(|app| app.profiles.iter().copied()).collect();
        known.sort_unstable();
        known.dedup();
        let hint = match nearest(profile, known.iter().copied()) {
            Some(meant) => format!(", did you mean {meant}?"),
            None if known.is_empty() => String::new(),
            None => format!("; there is {}", known.join(", ")),
        };
        self.mistake(0, format!("profile {profile}: no app has env_{profile}{hint}"));
    }

    /// Whom an app waits for, and where that is said.
    fn edges(&mut self, app: &App<'_>, places: &BTreeMap<Box<str>, usize>) -> Vec<(usize, usize)> {
        let mut edges = Vec::new();
        for (key, names) in [("after", &app.after), ("requires", &app.requires)] {
            for (name, span) in &names.0 {
                match places.get(name) {
                    Some(index) => edges.push((*index, span.start)),
                    None => {
                        let meant = nearest(name, places.keys().map(|name| &**name));
                        let hint = meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
                        self.mistake(span.start, format!("{}: {key}: there is no app {name}{hint}", app.spec.name));
                    }
                }
            }
        }
        edges
    }

    /// Each cycle at the first place that closes it. An edge of a cycle that was named is taken out, to find the next.
    fn cycles(&mut self, apps: &[App<'_>], mut edges: Vec<Vec<(usize, usize)>>) {
        while self.mistakes.len() < MISTAKES_MAX {
            let graph: Vec<Vec<usize>> = edges.iter().map(|to| to.iter().map(|(node, _)| *node).collect()).collect();
            let Some(cycle) = graph::cycle(&graph) else { return };
            let (Some(first), Some(next)) = (cycle.first().copied(), cycle.get(1).or(cycle.first()).copied()) else {
                return;
            };
            let Some(out) = edges.get_mut(first) else { return };
            let at = out.iter().find(|(node, _)| *node == next).map_or(0, |(_, at)| *at);
            out.retain(|(node, _)| *node != next);
            let names = cycle.iter().chain([&first]).filter_map(|node| apps.get(*node)).map(|app| &*app.spec.name);
            let way = names.collect::<Vec<_>>().join(" -> ");
            let who = apps.get(first).map(|app| app.spec.name.clone()).unwrap_or_default();
            self.mistake(at, format!("{who}: waits for itself, so none of these could start: {way}"));
        }
    }
}

/// What an app is called in messages, before it is known whether its name is good.
fn called(index: usize, table: &DeTable<'_>) -> String {
    let value =
        |name: &str| table.iter().find(|(key, _)| key.get_ref() == name).and_then(|(_, node)| node.get_ref().as_str());
    match value("name") {
        Some(name) if !name.is_empty() => short(name),
        _ => format!("app {}", index + 1),
    }
}

/// The first line of a text, cut to a length that fits a message.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let end = line.char_indices().nth(SHOWN_MAX).map_or(line.len(), |(end, _)| end);
    let cut = line.get(..end).unwrap_or_default();
    if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
}
