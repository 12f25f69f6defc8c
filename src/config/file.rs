//! The whole file: toml's tree, read by the tables of `schema`. Reading goes on after a mistake, so that all are found
//! in one go; only a file that is no TOML ends earlier.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::app::{self, Clash, Draft};
use super::mistakes::{self, Mistakes, short};
use super::schema::{self, Key};
use super::together::{self, App};
use super::value::{Refused, Scope, Val, Wrong};
use super::{Facts, Mistake, PACKED_MAX, pack, words};
use crate::supervisor::event::Size;
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{ExitPolicy, Settings, Spec};

/// More apps than this are a slip of a generator; an app is at least a process.
const APPS_MAX: usize = 4096;

/// Keys that are read first, in this order: what comes later may name the variables that they set.
const FIRST: [&str; 4] = ["cwd", "env_file", "env", "env_<profile>"];

/// The plan that a text is. `file` is its name in messages; relative paths start at `facts.start_dir`.
pub fn parse(file: &str, text: &str, profile: Option<&str>, facts: &Facts) -> Result<Spec, Vec<Mistake>> {
    let mut reader = Reader { text, profile, facts, found: Mistakes::new(file, text) };
    let (tree, errors) = DeTable::parse_recoverable(text);
    // What could be read of a broken file would only add mistakes that are none.
    for error in &errors {
        let span = error.span().unwrap_or_default();
        let what = match error.message() {
            // Anything else might show a secret that lacks its quotes.
            "duplicate key" => format!("duplicate key {}", text.get(span.clone()).unwrap_or_default()),
            other => other.to_owned(),
        };
        reader.found.add(span.start, what);
    }
    if errors.is_empty() {
        let spec = reader.document(tree.get_ref());
        let packed = if reader.found.is_empty() { pack(&spec).len() } else { 0 };
        if packed > PACKED_MAX {
            let (size, most) = (Size(packed as u64), Size(PACKED_MAX as u64));
            let why = format!("the plan takes {size}, more than the {most} that pm3 keeps in memory; use fewer apps");
            reader.found.add(0, why);
        }
        if reader.found.is_empty() {
            return Ok(spec);
        }
    }
    Err(reader.found.into_list())
}

struct Reader<'a> {
    text: &'a str,
    profile: Option<&'a str>,
    facts: &'a Facts,
    found: Mistakes<'a>,
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

impl Reader<'_> {
    fn document<'t>(&mut self, tree: &'t DeTable<'t>) -> Spec {
        let mut settings = Settings { cwd: self.facts.start_dir.to_string_lossy().into(), ..Settings::default() };
        let mut apps = Vec::new();
        let mut named = false;
        for (name, node) in tree {
            let at = name.span().start;
            match (&**name.get_ref(), node.get_ref()) {
                ("pm3", DeValue::Table(table)) => self.settings(table, &mut settings),
                ("pm3", _) => self.found.add(at, "pm3: expected a table, [pm3]"),
                ("apps", DeValue::Array(list)) => {
                    named = true;
                    self.apps(list, &mut apps);
                }
                ("apps", _) => {
                    named = true;
                    self.found.add(at, "apps: expected [[apps]], in double brackets, once for each app");
                }
                (other, _) => {
                    let why = match nearest(other, ["apps", "pm3"]) {
                        _ if schema::find(schema::APP, other).is_some() => "belongs under [[apps]]".to_owned(),
                        _ if schema::find(schema::SETTINGS, other).is_some() => "belongs under [pm3]".to_owned(),
                        Some("apps") => "unknown, did you mean [[apps]]?".to_owned(),
                        Some(meant) => format!("unknown, did you mean [{meant}]?"),
                        None => "unknown; a file has [[apps]] and [pm3]".to_owned(),
                    };
                    self.found.add(at, format!("{other}: {why}"));
                }
            }
        }
        // Where apps were meant, what is wrong with them has been said; whoever never ends may wait for `pm3 start`.
        let waits = settings.exit == ExitPolicy::Never && !named;
        if apps.is_empty() && !waits && (!named || self.found.is_empty()) {
            self.found.add(0, "no app in it; add [[apps]] with script = \"…\" or command = \"…\"");
        }
        Spec { apps: together::join(apps, self.profile, &mut self.found), settings }
    }

    fn settings<'t>(&mut self, table: &'t DeTable<'t>, settings: &mut Settings) {
        let scope = Scope { facts: self.facts, own: BTreeMap::new(), expands: true };
        let entries = self.entries(table, schema::SETTINGS, "pm3");
        for (entry, key) in entries.values().flatten() {
            self.read(entry, key, settings, &scope, "pm3");
        }
        for path in [&mut settings.runtime_dir, &mut settings.termination_log].into_iter().flatten() {
            *path = self.facts.start_dir.join(&**path).to_string_lossy().into();
        }
    }

    fn apps<'t>(&mut self, list: &'t [Spanned<DeValue<'t>>], apps: &mut Vec<App<'t>>) {
        for (index, node) in list.iter().enumerate() {
            let at = node.span().start;
            if self.found.are_enough() {
                return;
            }
            if index >= APPS_MAX {
                return self.found.add(at, format!("more than {APPS_MAX} apps"));
            }
            match node.get_ref().as_table() {
                Some(table) => apps.push(self.app(index, at, table)),
                None => self.found.add(at, format!("app {}: expected a table with script or command", index + 1)),
            }
        }
    }

    fn app<'t>(&mut self, index: usize, at: usize, table: &'t DeTable<'t>) -> App<'t> {
        let who = called(index, table);
        let entries = self.entries(table, schema::APP, &who);
        let mut draft = Draft::default();
        let mut bad = BTreeSet::new();
        let mut scope = Scope { facts: self.facts, own: BTreeMap::new(), expands: true };
        let mut turns: Vec<_> = entries.iter().collect();
        turns.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == *name).unwrap_or(FIRST.len()));
        for (name, (entry, key)) in turns.into_iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row))) {
            scope.expands = key.profile(entry.written).is_none_or(|profile| Some(profile) == self.profile);
            if !self.read(entry, key, &mut draft, &scope, &who) {
                bad.insert(*name);
            }
            let env = std::mem::take(&mut draft.env);
            scope.own.extend(env.into_iter().filter(|_| scope.expands));
            let home = app::home(&draft.spec.launch, self.facts);
            for (path, span) in std::mem::take(&mut draft.env_files.0) {
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
                None => self.found.add(at, format!("{who}: {why}")),
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
            if self.found.are_enough() {
                break;
            }
            let entry = Entry { written: name.get_ref(), at: name.span(), node };
            let Some(key) = schema::find(keys, entry.written) else {
                let elsewhere = |found: bool, table: &str| found.then(|| format!("belongs under {table}"));
                let why = elsewhere(who != "pm3" && schema::find(schema::SETTINGS, entry.written).is_some(), "[pm3]")
                    .or_else(|| {
                        elsewhere(who == "pm3" && schema::find(schema::APP, entry.written).is_some(), "[[apps]]")
                    })
                    .unwrap_or_else(|| schema::unknown(keys, entry.written));
                self.found.add(entry.at.start, format!("{who}: {}: {why}", entry.written));
                continue;
            };
            let rows = entries.entry(key.name).or_default();
            match rows.first() {
                Some((first, _)) if key.profile(entry.written).is_none() => {
                    let why = format!("{who}: {}: the same key as {}, which is set too", entry.written, first.written);
                    self.found.add(entry.at.start, why);
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
                Some((span, path)) => self.found.add(span.start, format!("{who}: {}{path}: {why}", entry.written)),
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
        self.found.add(at.start, format!("{who}: {written}{shown}: {why}"));
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
            Err(problem) if problem.place.is_none() => {
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
            let (line, col) = mistakes::place(&text, offset);
            self.found.add_elsewhere(Mistake { file: file.clone(), line, col, text: format!("{who}: {why}") });
        }
    }
}

/// What an app is called in messages, before it is known whether its name is good.
fn called(index: usize, table: &DeTable<'_>) -> String {
    let value =
        |name: &str| table.iter().find(|(key, _)| key.get_ref() == name).and_then(|(_, node)| node.get_ref().as_str());
    let given = value("name").filter(|name| !name.is_empty()).map(short);
    given
        .or_else(|| app::default_name(value("script"), value("command")))
        .unwrap_or_else(|| format!("app {}", index + 1))
}
