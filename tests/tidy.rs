//! The rules of the tree that no compiler knows, as an ordinary test: who may import whom, where `unsafe` may
//! stand, what init's path never says. Rules read text, not syntax trees, so that each is a few lines; what that
//! costs in exactness is paid by the planted snippets at the end, which show that each rule can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;

/// Who may import what: a layer (a folder or file of `src/`), and the paths in this crate that it may name.
/// `main` and `lib` tie everything together and are not in the table; nothing imports `cli`, `web` or `roles`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("supervisor", &[]),
    ("config", &["supervisor"]),
    ("control", &["supervisor"]),
    ("sys", &["supervisor::event"]),
    ("roles", &["supervisor", "config", "control", "sys"]),
    ("web", &["sys", "control", "config", "supervisor"]),
    ("cli", &["sys", "control", "config", "supervisor"]),
    ("engine", &["supervisor", "config", "control", "sys"]),
];

/// The folders of `src/roles`: each is a process of its own, and none imports another.
const ROLES: &[&str] = &["logger", "watcher"];

/// Crates that have a home: the layers that may name them, and why it is those.
const HOMES: &[(&str, &[&str], &str)] = &[
    ("nix", &["sys"], "system calls are made in one place"),
    ("libc", &["sys"], "system calls are made in one place"),
    ("toml", &["config"], "the file is read in a short-lived child"),
    ("saphyr_parser", &["config"], "the file is read in a short-lived child"),
    ("clap", &["cli"], "init parses no verbs"),
    ("miniz_oxide", &["roles"], "old files are compressed by a copy of the logger"),
];

/// Files that may name a crate outside its home: file, crate, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// What unit tests may import anywhere.
const FOR_TESTS: &str = "dir::Dir";

/// What only the outside world knows; `supervisor` is told.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::env",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    // Not all of it: `Arc` is memory that is shared, and nobody waits for it.
    "std::sync::atomic",
    "mpsc",
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "log",
    "HashMap",
    "HashSet",
    "RandomState",
];

/// Layers that run inside init: there a panic is the end of the machine.
const INITS_PATH: &[&str] = &["supervisor", "engine", "sys"];

/// What panics, or writes where nobody may be listening any more.
const PANICS: &[&str] = &[
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
    "assert!",
    "assert_eq!",
    "assert_ne!",
];

/// A file longer than this is probably two.
const LINES_MAX: usize = 600;

/// All that the top level holds, beside dotfiles and what `.gitignore` names.
const TOP: &[&str] = &["Cargo.toml", "Cargo.lock", "src", "conf", "tests", "Containerfile", "README.md", "LICENSE"];

/// A Rust file of the tree.
struct Source {
    /// From the top of the tree, with `/`.
    path: String,
    text: String,
    /// The text with comments, strings and character literals blanked; lines and columns stay.
    code: String,
    /// `code` without what is compiled for tests only.
    shipped: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = blank_words(text);
        let shipped = blank_tests(&code);
        Source { path: path.into(), text: text.into(), code, shipped }
    }

    /// `src/config/units.rs` and `src/config.rs` belong to `config`.
    fn layer(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split(['/', '.']).next()
    }

    fn is_in(&self, layers: &[&str]) -> bool {
        self.layer().is_some_and(|layer| layers.contains(&layer))
    }

    /// Modules between the crate's root and this file's items: 1 for `src/config/mod.rs`, 2 for its siblings.
    fn depth(&self) -> usize {
        self.path.matches('/').count() - usize::from(self.path.ends_with("/mod.rs"))
    }

    fn complain(&self, at: usize, what: impl AsRef<str>) -> String {
        let line = self.text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {}", self.path, what.as_ref())
    }
}

type Rule = fn(&Source) -> Vec<String>;

const RULES: &[Rule] = &[
    imports_go_one_way,
    roles_stay_apart,
    crates_stay_at_home,
    supervisor_is_pure,
    unsafe_is_in_sys_and_argued,
    inits_path_does_not_panic,
    files_begin_with_their_purpose,
    files_are_short,
    nothing_is_left_for_later,
    tests_do_not_sleep,
];

fn imports_go_one_way(file: &Source) -> Vec<String> {
    let Some((layer, allowed)) = IMPORTS.iter().find(|(layer, _)| file.layer() == Some(layer)) else { return vec![] };
    let mut bad = vec![];
    for (at, path) in crate_paths(file) {
        let mut open = allowed.iter().chain([layer]);
        let is_for_tests = path == FOR_TESTS && file.shipped.as_bytes()[at] == b' ';
        if !is_for_tests && !open.any(|prefix| path == *prefix || path.starts_with(&format!("{prefix}::"))) {
            bad.push(file.complain(at, format!("{layer} may not import {path}; it may import {allowed:?}")));
        }
    }
    bad
}

fn roles_stay_apart(file: &Source) -> Vec<String> {
    let own = file.path.strip_prefix("src/roles/").and_then(|path| path.split_once('/'));
    let Some((own, _)) = own else { return vec![] };
    let others = ROLES.iter().filter(|role| **role != own);
    let named = others.flat_map(|role| words(&file.code, role).map(move |at| (at, role)));
    named
        .filter(|(at, role)| file.code[..*at].ends_with("::") || file.code[at + role.len()..].starts_with("::"))
        .map(|(at, role)| file.complain(at, format!("the {own} may not import the {role}: they are two processes")))
        .collect()
}

fn crates_stay_at_home(file: &Source) -> Vec<String> {
    let mut bad = vec![];
    for (name, homes, why) in HOMES {
        let excepted = EXCEPTIONS.iter().any(|(path, of, _)| *path == file.path && of == name);
        if file.layer().is_none() || file.is_in(homes) || excepted {
            continue;
        }
        for at in words(&file.shipped, name) {
            if file.shipped[at + name.len()..].starts_with("::") || is_bare_use(&file.shipped, at) {
                bad.push(file.complain(at, format!("{name} belongs to {homes:?} alone: {why}")));
            }
        }
    }
    bad
}

fn supervisor_is_pure(file: &Source) -> Vec<String> {
    if !file.is_in(&["supervisor"]) {
        return vec![];
    }
    let of_world = IMPURE.iter().flat_map(|name| words(&file.shipped, name).map(move |at| (at, name)));
    of_world
        .filter(|(at, name)| **name != "log" || file.shipped[at + name.len()..].starts_with("::"))
        .map(|(at, name)| file.complain(at, format!("the supervisor is pure and knows no {name}")))
        .collect()
}

fn unsafe_is_in_sys_and_argued(file: &Source) -> Vec<String> {
    let mut bad = vec![];
    for at in words(&file.code, "unsafe") {
        if file.layer().is_some() && !file.is_in(&["sys"]) {
            bad.push(file.complain(at, "unsafe outside src/sys"));
        }
        let after = file.code[at + "unsafe".len()..].trim_start();
        if !after.starts_with('{') {
            continue;
        }
        let above = file.text[..at].rsplit('\n').skip(1).map(str::trim);
        // The reason stands above the statement, which may have begun some lines before.
        let comment = above.skip_while(|line| !line.starts_with("//") && !line.ends_with([';', '{', '}']));
        if !comment.take_while(|line| line.starts_with("//")).any(|line| line.starts_with("// SAFETY: ")) {
            bad.push(file.complain(at, "unsafe without a `// SAFETY:` reason above it"));
        }
        if after[..block_len(after)].matches(';').count() > 1 {
            bad.push(file.complain(at, "an unsafe block of more than one call"));
        }
    }
    bad
}

fn inits_path_does_not_panic(file: &Source) -> Vec<String> {
    if !file.is_in(INITS_PATH) {
        return vec![];
    }
    let mut bad = vec![];
    for word in PANICS {
        for at in words(&file.shipped, word) {
            // Checked by the compiler, so never on a running init.
            if !line_at(&file.shipped, at).trim_start().starts_with("const _: () =") {
                bad.push(file.complain(at, format!("{word} on init's path")));
            }
        }
    }
    for (at, _) in file.shipped.match_indices('[') {
        let before = file.shipped[..at].chars().next_back().unwrap_or(' ');
        let inside = file.shipped[at + 1..].split(']').next().unwrap_or_default();
        let literal = inside.starts_with(|c: char| c.is_ascii_digit()) && !inside.contains([';', ',']);
        if literal && (before.is_alphanumeric() || matches!(before, '_' | ')' | ']' | '?')) {
            bad.push(file.complain(at, "indexing by a literal on init's path"));
        }
    }
    bad
}

fn files_begin_with_their_purpose(file: &Source) -> Vec<String> {
    let page: usize = file.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::len).sum();
    // Shorter than this is a title, not a purpose.
    if page < 40 { vec![file.complain(0, "does not begin with a `//!` page that says what it is for")] } else { vec![] }
}

fn files_are_short(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    if file.layer().is_some() && lines > LINES_MAX {
        return vec![file.complain(0, format!("{lines} lines, over {LINES_MAX}: probably two files"))];
    }
    vec![]
}

fn nothing_is_left_for_later(file: &Source) -> Vec<String> {
    // Put together, so that this file passes its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let found = marks.iter().flat_map(|mark| words(&file.text, mark).map(move |at| (at, mark)));
    found.map(|(at, mark)| file.complain(at, format!("{mark}: do it, or say in a sentence how things are"))).collect()
}

fn tests_do_not_sleep(file: &Source) -> Vec<String> {
    if file.layer().is_some() {
        return vec![];
    }
    let naps = ["sleep(", "sleep_ms(", "sleep_until(", "nanosleep(", "#[ignore"];
    let found = naps.iter().flat_map(|nap| words(&file.code, nap).map(move |at| (at, nap)));
    found.map(|(at, nap)| file.complain(at, format!("`{nap}`: wait for an event instead"))).collect()
}

/// Rules of Cargo.toml: each dependency says on the line above why it is there.
fn dependencies_are_argued(manifest: &str) -> Vec<String> {
    let mut bad = vec![];
    let (mut section, mut above) = ("", "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        }
        let is_entry = section.ends_with("dependencies") && line.starts_with(|c: char| c.is_alphanumeric());
        let is_table = line.starts_with('[') && section.contains("dependencies.");
        if (is_entry || is_table) && !above.starts_with("# ") {
            bad.push(format!("Cargo.toml: no reason above `{line}`"));
        }
        above = line;
    }
    bad
}

/// Names of the top level that do not belong there.
fn top_is_tidy(names: &[String], ignored: &str) -> Vec<String> {
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let strange = names
        .iter()
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()) && !ignored.contains(&name.as_str()));
    strange.map(|name| format!("{name}: does not belong at the top level, which holds {TOP:?}")).collect()
}

/// Every path into this crate with the offset where it stands: `crate::a::b`, `pm3::a`, `super::super::a`, and
/// each member of a group in braces.
fn crate_paths(file: &Source) -> Vec<(usize, String)> {
    let code = &file.code;
    let mut paths = vec![];
    for root in ["crate", "pm3"] {
        for at in words(code, root) {
            if let Some(rest) = code[at + root.len()..].strip_prefix("::") {
                paths.extend(path_heads(rest).into_iter().map(|path| (at, path)));
            }
        }
    }
    for at in words(code, "super") {
        let (mut rest, mut ups) = (&code[at..], 0);
        while let Some(up) = rest.strip_prefix("super::") {
            (rest, ups) = (up, ups + 1);
        }
        // Of `super::super::x` the second `super` is found as well; it climbs less high.
        if ups >= file.depth() && !code[..at].ends_with("::") {
            paths.extend(path_heads(rest).into_iter().map(|path| (at, path)));
        }
    }
    paths
}

/// The paths that `rest` begins with: one, or those of a group in braces, whose own groups are not opened.
fn path_heads(rest: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let head = |text: &str| text.chars().take_while(|c| is_path(*c)).collect::<String>().trim_matches(':').to_owned();
    if !rest.starts_with('{') {
        return vec![head(rest)];
    }
    let group = &rest[1..block_len(rest) - 1];
    let mut depth = 0;
    let members = group.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    members.map(|member| head(member.trim())).filter(|path| !path.is_empty()).collect()
}

/// Length of the block that `text` starts with, braces included.
fn block_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Where `word` stands as a word of its own; where it begins or ends with a symbol, that side is free.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back().is_some_and(is_name) && word.starts_with(is_name);
        let after = text[at + word.len()..].chars().next().is_some_and(is_name) && word.ends_with(is_name);
        !before && !after
    })
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].split('\n').next().unwrap_or_default()
}

/// `use libc;` and `use {libc, x}` name a crate without `::` after it.
fn is_bare_use(code: &str, at: usize) -> bool {
    let statement = code[..at].rsplit([';', '}']).next().unwrap_or_default();
    words(statement, "use").next().is_some() && !statement.trim_end().ends_with("::")
}

/// Blanks comments, strings and character literals.
fn blank_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_name = false;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_len(rest)
        } else if let Some(len) = raw_string_len(rest).filter(|_| !after_name) {
            len
        } else if c == '"' {
            1 + quoted_len(&rest[1..], '"')
        } else if c == '\'' && is_char_literal(rest) {
            1 + quoted_len(&rest[1..], '\'')
        } else {
            after_name = c.is_alphanumeric() || c == '_';
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        after_name = false;
        // Bytes, not characters: offsets stay the same as in the text.
        out.extend(rest[..len].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        rest = &rest[len..];
    }
    out
}

fn comment_len(text: &str) -> usize {
    let mut depth = 0;
    for at in text.char_indices().map(|(at, _)| at) {
        if text[at..].starts_with("/*") {
            depth += 1;
        } else if text[..at].ends_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    text.len()
}

/// `r"…"`, `br#"…"#` and the like.
fn raw_string_len(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes: String = body.chars().take_while(|c| *c == '#').collect();
    let start = text.len() - body.len() + hashes.len();
    let inside = text[start..].strip_prefix('"')?;
    let close = format!("\"{hashes}");
    Some(inside.find(&close).map_or(text.len(), |at| start + 1 + at + close.len()))
}

/// Length of a quoted text's inside and its closing quote.
fn quoted_len(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    inside.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// Blanks each item below `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let body = &code[at + attribute.len()..];
        let brace = body.find('{').unwrap_or(body.len());
        let semicolon = body.find(';').unwrap_or(body.len());
        let len = if brace < semicolon { brace + block_len(&body[brace..]) } else { semicolon };
        let end = (at + attribute.len() + len).min(code.len());
        let blank: String = code[at..end].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blank);
    }
    out
}

fn rust_files(dir: &Path, root: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, root, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    rust_files(&root.join("src"), root, &mut files);
    rust_files(&root.join("tests"), root, &mut files);
    assert!(files.iter().any(|file| file.path == "src/main.rs"), "looked in the wrong place: {}", root.display());

    let mut bad: Vec<String> = RULES.iter().flat_map(|rule| files.iter().flat_map(rule)).collect();
    bad.extend(dependencies_are_argued(&fs::read_to_string(root.join("Cargo.toml")).unwrap()));
    let names: Vec<String> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    bad.extend(top_is_tidy(&names, &fs::read_to_string(root.join(".gitignore")).unwrap_or_default()));
    for (path, name, _) in EXCEPTIONS {
        if !files.iter().any(|file| file.path == *path && words(&file.shipped, name).next().is_some()) {
            bad.push(format!("{path}: is excepted for {name}, and no longer needs it"));
        }
    }
    assert!(bad.is_empty(), "the tree is not tidy:\n{}", bad.join("\n"));
}

/// Says what `rule` makes of a snippet: how many complaints.
fn check(rule: Rule, path: &str, text: &str, complaints: usize) {
    let found = rule(&Source::new(path, text));
    assert_eq!(found.len(), complaints, "{path}:\n{text}\n{found:#?}");
}

#[test]
fn a_wrong_import_is_seen() {
    let wrong = [
        ("src/supervisor/app.rs", "use crate::config::Kind;", 1),
        ("src/supervisor/app.rs", "use crate::{sys, supervisor::event};", 1),
        ("src/config/mod.rs", "use crate::{\n    supervisor::spec::{Spec, Kind},\n    engine::{a, b},\n};", 1),
        ("src/config/mod.rs", "use super::sys::proc;", 1),
        ("src/config/units.rs", "use super::super::sys::proc;", 1),
        ("src/sys/reap.rs", "fn f() { crate::supervisor::spec::x() }", 1),
        ("src/engine/mod.rs", "pub(super) use crate::cli::args;", 1),
        ("src/cli/mod.rs", "fn f() { pm3::engine::run() }", 1),
        ("src/cli/mod.rs", "fn f() { crate::dir::Dir::new() }", 1),
        ("src/cli/mod.rs", "use crate::dir::Dir;", 1),
    ];
    let right = [
        ("src/supervisor/app.rs", "use super::event::Event; use crate::supervisor::spec::Spec;", 0),
        ("src/supervisor/app.rs", "// use crate::sys;\nconst A: &str = \"crate::sys\";", 0),
        ("src/config/units.rs", "use super::schema; use crate::supervisor::spec;", 0),
        ("src/config/units.rs", "mod tests { use super::super::schema::x as _; }\n pub(in crate) fn f() {}", 1),
        ("src/sys/reap.rs", "use crate::supervisor::event::{Mono, Sig}; use super::signals;", 0),
        ("src/main.rs", "use pm3::{cli, engine};", 0),
        ("src/cli/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::dir::Dir;\n}", 0),
    ];
    for (path, text, complaints) in wrong.into_iter().chain(right) {
        check(imports_go_one_way, path, text, complaints);
    }
}

#[test]
fn a_role_that_knows_another_is_seen() {
    check(roles_stay_apart, "src/roles/logger/mod.rs", "use super::watcher::tree; use crate::roles::watcher;", 2);
    check(roles_stay_apart, "src/roles/watcher/tree.rs", "use super::super::{logger::ring, Line};", 1);
    check(roles_stay_apart, "src/roles/watcher/mod.rs", "use crate::roles::Line; let logger = 1; mod watcher {}", 0);
    check(roles_stay_apart, "src/roles/mod.rs", "pub mod logger; pub mod watcher;", 0);
}

#[test]
fn a_crate_away_from_home_is_seen() {
    check(crates_stay_at_home, "src/engine/mod.rs", "use nix::sys::signal; use libc;", 2);
    check(crates_stay_at_home, "src/config/mod.rs", "fn f() { libc::getpid() }", 1);
    check(crates_stay_at_home, "src/sys/mod.rs", "use nix::unistd; use toml::Value;", 1);
    check(crates_stay_at_home, "tests/run.rs", "use nix::unistd;", 0);
    check(crates_stay_at_home, "src/engine/mod.rs", "use crate::sys::libc_like; fn nix() {}", 0);
    check(crates_stay_at_home, "src/config/mod.rs", "#[cfg(test)]\nmod tests { use nix::unistd; }\nuse toml::de;", 0);
}

#[test]
fn an_impure_supervisor_is_seen() {
    let impure = "use std::time::{Duration, Instant};\nuse std::collections::HashMap;\nfn f() { log::warn!(\"x\") }";
    check(supervisor_is_pure, "src/supervisor/app.rs", impure, 3);
    check(supervisor_is_pure, "src/engine/mod.rs", impure, 0);
    check(supervisor_is_pure, "src/supervisor/app.rs", "use std::collections::BTreeMap; let log = vec![];", 0);
}

#[test]
fn an_unsafe_out_of_place_is_seen() {
    let argued = "// SAFETY: takes no pointer.\nlet pid = unsafe { getpid() };";
    check(unsafe_is_in_sys_and_argued, "src/sys/spawn.rs", argued, 0);
    check(unsafe_is_in_sys_and_argued, "src/engine/mod.rs", argued, 1);
    check(unsafe_is_in_sys_and_argued, "src/sys/spawn.rs", "let pid = unsafe { getpid() };", 1);
    check(unsafe_is_in_sys_and_argued, "tests/run.rs", "let pid = unsafe { getpid() };", 1);
    check(unsafe_is_in_sys_and_argued, "src/sys/spawn.rs", "// SAFETY: both fine.\nunsafe { a(); b(); }", 1);
    check(unsafe_is_in_sys_and_argued, "src/sys/spawn.rs", "// an unsafe { thought }\nlet s = \"unsafe {\";", 0);
}

#[test]
fn a_panic_on_inits_path_is_seen() {
    let panics = "fn f() { println!(\"x\"); g().unwrap(); h().expect(\"y\"); todo!(); k()[0]; l[12] }";
    check(inits_path_does_not_panic, "src/supervisor/app.rs", panics, 6);
    check(inits_path_does_not_panic, "src/sys/reap.rs", panics, 6);
    check(inits_path_does_not_panic, "src/cli/mod.rs", panics, 0);
    let fine = "fn f() -> [u8; 4] { x.unwrap_or(0); let y: [u8; 2] = [0; 2]; let z = [1]; debug_assert!(y == z); a[b] }\n\
                const _: () = assert!(size_of::<u64>() == 8);\n/// Never `x.unwrap()`.\nlet s = \"panic!\";";
    check(inits_path_does_not_panic, "src/engine/mod.rs", fine, 0);
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { x.unwrap(); \"}\"; }\n}\nfn h() { y.unwrap() }";
    check(inits_path_does_not_panic, "src/engine/mod.rs", tests, 1);
}

#[test]
fn a_file_without_purpose_or_end_is_seen() {
    let page = "//! Reads the file again in a child, and never in init itself.\n";
    check(files_begin_with_their_purpose, "src/a.rs", page, 0);
    check(
        files_begin_with_their_purpose,
        "src/a.rs",
        "use std::fmt;\n//! Too late to say what this file is for, really.",
        1,
    );
    check(files_begin_with_their_purpose, "src/a.rs", "//! pm3.", 1);
    check(files_are_short, "src/a.rs", &"\n".repeat(LINES_MAX), 0);
    check(files_are_short, "src/a.rs", &"\n".repeat(LINES_MAX + 1), 1);
}

#[test]
fn work_left_for_later_is_seen() {
    check(nothing_is_left_for_later, "src/a.rs", concat!("// TO", "DO: later\nfn f() {} // FIX", "ME"), 2);
    check(nothing_is_left_for_later, "tests/a.rs", "// todo lists are not meant", 0);
}

#[test]
fn a_nap_is_seen() {
    check(tests_do_not_sleep, "tests/a.rs", "std::thread::sleep(Duration::from_millis(5));", 1);
    check(tests_do_not_sleep, "tests/ns/a.rs", "use std::thread::sleep;\nfn f() { sleep(d) }", 1);
    check(tests_do_not_sleep, "tests/a.rs", "let script = \"sleep(5)\"; asleep(5);", 0);
}

#[test]
fn an_unargued_dependency_is_seen() {
    let manifest = "[dependencies]\n# It does x.\na = \"1\"\nb = \"1\"\n\n[profile.release]\nlto = \"fat\"\n\n\
                    [dev-dependencies.c]\nversion = \"1\"\n";
    assert_eq!(dependencies_are_argued(manifest).len(), 2);
}

#[test]
fn a_stranger_at_the_top_is_seen() {
    let names = ["src", ".gitignore", "target", "notes.md"].map(String::from);
    assert_eq!(top_is_tidy(&names, "/target\n").len(), 1);
}
