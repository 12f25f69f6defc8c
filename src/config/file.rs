//! The whole file: its apps and pm3's settings, out of a tree of any language. A TOML file has `[[apps]]` and `[pm3]`; a
//! file for PM2 is `{ apps: […] }`, a bare list, or one bare app, and may have `pm3` too.

use super::mistakes::{Mistakes, Origin, short};
use super::reader::Reader;
use super::schema;
use super::together::{self, App};
use super::tree::{Node, Table, Tree};
use super::value::Dialect;
use super::{Facts, Form, Loaded, Mistake, PACKED_MAX, Wanted, app, forms, pack};
use crate::supervisor::event::Size;
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{ExitPolicy, Settings, Spec};

/// More apps than this are a slip of a generator; an app is at least a process.
const APPS_MAX: usize = 4096;

/// What a file for PM2 may have beside apps that means nothing here: the recipe of `pm2 deploy`.
const DEPLOY: &str = "deploy";

/// The plan that a text in TOML is. `file` is its name in messages; relative paths start at `facts.start_dir`.
pub fn parse(file: &str, text: &str, profile: Option<&str>, facts: &Facts) -> Result<Spec, Vec<Mistake>> {
    let wanted = Wanted { profile, ..Wanted::default() };
    read(file, Form::Toml, text, &wanted, facts).map(|loaded| loaded.spec)
}

/// What a text holds. What a script exports is given as JSON.
pub fn read(file: &str, form: Form, text: &str, wanted: &Wanted<'_>, facts: &Facts) -> Result<Loaded, Vec<Mistake>> {
    let tree = match forms::read(form, text) {
        Ok(tree) => tree,
        Err(broken) => {
            let mut found = Mistakes::new(Origin::Text { file, text });
            broken.into_iter().for_each(|(at, why)| found.add(at, why));
            return Err(found.into_list());
        }
    };
    let (dialect, origin) = match form {
        Form::Toml => (Dialect::Native, Origin::Text { file, text }),
        Form::Json | Form::Yaml => (Dialect::Pm2, Origin::Text { file, text }),
        Form::Script => (Dialect::Pm2, Origin::Export { file, text, tree: &tree }),
    };
    let mut reader = Reader::new(dialect, origin, wanted.profile, facts);
    let mut spec = document(&mut reader, &tree, wanted);
    if wanted.travels {
        super::anchor(&mut spec.apps, &facts.start_dir);
    }
    let packed = if reader.found.is_empty() { pack(&spec).len() } else { 0 };
    if packed > PACKED_MAX {
        let (size, most) = (Size(packed as u64), Size(PACKED_MAX as u64));
        let why = format!("the plan takes {size}, more than the {most} that pm3 keeps in memory; use fewer apps");
        reader.found.add(0, why);
    }
    if !reader.found.is_empty() {
        return Err(reader.found.into_list());
    }
    let passed_over: Vec<&str> = reader.passed_over.into_iter().collect();
    let passed_over = (!passed_over.is_empty())
        .then(|| format!("{file}: passed over, as pm3 has no use for it: {}", passed_over.join(", ")));
    let notes = reader.notes.into_iter().map(|note| format!("{file}: {note}"));
    let warnings = passed_over.into_iter().chain(notes).collect();
    Ok(Loaded { spec, warnings })
}

fn document<'a>(reader: &mut Reader<'a>, tree: &'a Node, wanted: &Wanted<'_>) -> Spec {
    let facts = reader.facts;
    let mut settings = Settings { cwd: facts.start_dir.to_string_lossy().into(), ..Settings::default() };
    let mut apps = Vec::new();
    let mut named = false;
    match &tree.tree {
        Tree::List(list) => list_of_apps(reader, list, &mut apps),
        Tree::Table(table) if is_app(reader.dialect, table) => apps.push(one_app(reader, 0, tree.span.start, table)),
        Tree::Table(table) => {
            for entry in table {
                let at = entry.at.start;
                match (&*entry.name, &entry.node.tree) {
                    ("pm3", Tree::Table(table)) => reader.settings(table, &mut settings),
                    ("pm3", _) => reader.found.add(at, "pm3: expected a table of pm3's own settings"),
                    ("apps", Tree::List(list)) => {
                        named = true;
                        list_of_apps(reader, list, &mut apps);
                    }
                    ("apps", Tree::Table(table)) if reader.dialect == Dialect::Pm2 => {
                        named = true;
                        apps.push(one_app(reader, 0, at, table));
                    }
                    ("apps", _) => {
                        named = true;
                        reader.found.add(at, format!("apps: expected {}", lists(reader.dialect)));
                    }
                    (DEPLOY, _) if reader.dialect == Dialect::Pm2 => drop(reader.passed_over.insert(DEPLOY)),
                    // Nothing but a place for what aliases refer to, as in Compose files.
                    (other, _) if reader.dialect == Dialect::Pm2 && other.starts_with("x-") => {}
                    (other, _) => {
                        let why = stranger(reader.dialect, other);
                        reader.found.add(at, format!("{other}: {why}"));
                    }
                }
            }
        }
        Tree::Nothing | Tree::Flag(_) | Tree::Number(_) | Tree::Text(_) | Tree::Odd => {}
    }
    // Where apps were meant, what is wrong with them has been said; whoever never ends may wait for `pm3 start`.
    let waits = settings.exit == ExitPolicy::Never && !named;
    if apps.is_empty() && !waits && (!named || reader.found.is_empty()) {
        reader.found.add(
            0,
            match reader.dialect {
                Dialect::Pm2 => "no app in it; it should be, or export, { apps: [{ script: \"…\" }] }",
                Dialect::Native | Dialect::Options | Dialect::Spec => {
                    "no app in it; add [[apps]] with script = \"…\" or command = \"…\""
                }
            },
        );
    }
    Spec { apps: together::join(apps, wanted, &mut reader.found), settings }
}

/// Whether a file's only table is an app itself, as PM2 allows.
fn is_app(dialect: Dialect, table: &Table) -> bool {
    let runs =
        |name: &str| schema::find(schema::APP, name).is_some_and(|key| ["script", "command"].contains(&key.name));
    dialect == Dialect::Pm2
        && table.iter().any(|entry| runs(&entry.name))
        && !table.iter().any(|entry| entry.name == "apps")
}

fn lists(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Pm2 => "a list of apps",
        Dialect::Native | Dialect::Options | Dialect::Spec => "[[apps]], in double brackets, once for each app",
    }
}

/// What to say about a key beside `apps` and `pm3`.
fn stranger(dialect: Dialect, name: &str) -> String {
    let (apps, pm3) = dialect.parts();
    match nearest(name, ["apps", "pm3"]) {
        _ if schema::find(schema::APP, name).is_some() => format!("belongs under {apps}"),
        _ if schema::find(schema::SETTINGS, name).is_some() => format!("belongs under {pm3}"),
        Some("apps") => format!("unknown, did you mean {apps}?"),
        Some(_) => format!("unknown, did you mean {pm3}?"),
        None => format!("unknown; a file has {apps} and {pm3}"),
    }
}

fn list_of_apps<'a>(reader: &mut Reader<'a>, list: &'a [Node], apps: &mut Vec<App<'a>>) {
    for (index, node) in list.iter().enumerate() {
        let at = node.span.start;
        if reader.found.are_enough() {
            return;
        }
        if index >= APPS_MAX {
            return reader.found.add(at, format!("more than {APPS_MAX} apps"));
        }
        match node.table() {
            Some(table) => apps.push(one_app(reader, index, at, table)),
            None => reader.found.add(at, format!("app {}: expected a table with script or command", index + 1)),
        }
    }
}

fn one_app<'a>(reader: &mut Reader<'a>, index: usize, at: usize, table: &'a Table) -> App<'a> {
    reader.app(&called(index, table), at, table)
}

/// What an app is called in messages, before it is known whether its name is good.
fn called(index: usize, table: &Table) -> String {
    let value = |name: &str| table.iter().find(|entry| entry.name == name).and_then(|entry| entry.node.text());
    let given = value("name").filter(|name| !name.is_empty()).map(short);
    given
        .or_else(|| app::default_name(value("script"), value("command")))
        .unwrap_or_else(|| format!("app {}", index + 1))
}
