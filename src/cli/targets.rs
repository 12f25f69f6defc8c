//! The words that say which apps are meant. Names, namespaces, ids and `all` are for the supervisor to look up; files of
//! apps, `-` and `/regex/` are resolved here, because init reads no file but its own and holds no regex.

use regex_lite::Regex;

use crate::config;
use crate::control::Row;

/// What a target is, by how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A file of apps.
    File(&'a str),
    /// `-`: JSON on standard input.
    Stdin,
    /// A word for the supervisor: a name, a namespace, an id, `all`; or `/regex/`.
    Word(&'a str),
}

impl Target<'_> {
    /// A name that looks like a file's is a file, unless an app in `rows` has it and there is no such file.
    pub(super) fn of<'a>(word: &'a str, rows: &[Row]) -> Target<'a> {
        if word == "-" {
            return Target::Stdin;
        }
        let is_file = config::is_file_of_apps(word);
        if is_file && (std::path::Path::new(word).exists() || !is_known(word, rows)) {
            return Target::File(word);
        }
        Target::Word(word)
    }
}

/// The instances that a word means, in PM2's order: a name, then a namespace, then an id.
///
/// # Errors
/// A regex that is none, or that no name matches. A word that means nothing is no error: the supervisor says so.
pub(super) fn resolve<'a>(word: &str, rows: &'a [Row]) -> Result<Vec<&'a Row>, String> {
    let of = |chosen: &dyn Fn(&Row) -> bool| -> Vec<&Row> { rows.iter().filter(|row| chosen(row)).collect() };
    if word == "all" {
        return Ok(of(&|_| true));
    }
    if let Some(pattern) = regex_of(word) {
        let regex = Regex::new(pattern).map_err(|why| format!("{word}: not a regular expression: {why}"))?;
        let found = of(&|row| regex.is_match(&row.name));
        return if found.is_empty() {
            Err(format!("{word}: no app's name matches; `pm3 list` shows what there is"))
        } else {
            Ok(found)
        };
    }
    let named = of(&|row| *row.name == *word);
    if !named.is_empty() {
        return Ok(named);
    }
    let spaced = of(&|row| *row.namespace == *word);
    if !spaced.is_empty() {
        return Ok(spaced);
    }
    let id: Option<u32> = word.parse().ok();
    Ok(of(&|row| Some(row.id) == id))
}

/// Whether the supervisor knows apps by this word.
pub(super) fn is_known(word: &str, rows: &[Row]) -> bool {
    resolve(word, rows).is_ok_and(|found| !found.is_empty())
}

/// What stands between the slashes of `/regex/`. A path that ends with a slash is no script, so it cannot be meant.
fn regex_of(word: &str) -> Option<&str> {
    word.strip_prefix('/')?.strip_suffix('/').filter(|pattern| !pattern.is_empty())
}

/// Whether a word is one that only [`for_supervisor`] can resolve, with the rows that there are.
pub(super) fn is_regex(word: &str) -> bool {
    regex_of(word).is_some()
}

/// The words as the supervisor takes them: a regex becomes the ids of those that it matches. What is wrong with a word
/// goes to `failed`.
pub(super) fn for_supervisor<'a>(
    words: impl IntoIterator<Item = &'a str>,
    rows: &[Row],
    failed: &mut Vec<String>,
) -> Vec<Box<str>> {
    let mut targets = Vec::new();
    for word in words {
        match regex_of(word).map(|_| resolve(word, rows)) {
            None => targets.push(word.into()),
            Some(Ok(found)) => targets.extend(found.iter().map(|row| row.id.to_string().into())),
            Some(Err(why)) => failed.push(why),
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rows() -> Vec<Row> {
        let row = |id, name: &str, namespace: &str| Row {
            id,
            name: name.into(),
            namespace: namespace.into(),
            ..Row::default()
        };
        vec![
            row(0, "web", "shop"),
            row(1, "web", "shop"),
            row(2, "shop", "default"),
            row(3, "7", "x"),
            row(7, "a.json", "x"),
        ]
    }

    fn ids(word: &str) -> Vec<u32> {
        resolve(word, &rows()).unwrap().iter().map(|row| row.id).collect()
    }

    #[test]
    fn words_mean_names_then_namespaces_then_ids() {
        assert_eq!(ids("web"), [0, 1]);
        assert_eq!(ids("shop"), [2]);
        assert_eq!(ids("x"), [3, 7]);
        assert_eq!(ids("7"), [3]);
        assert_eq!(ids("1"), [1]);
        assert_eq!(ids("all"), [0, 1, 2, 3, 7]);
        assert_eq!(ids("none"), [0; 0]);
        assert_eq!(ids("/^(web|shop)$/"), [0, 1, 2]);
        for (word, part) in [("/nothing/", "no app's name matches"), ("/(/", "not a regular expression")] {
            let why = resolve(word, &rows()).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_regex_goes_out_as_ids() {
        let mut failed = Vec::new();
        let targets = for_supervisor(["web", "/e/", "nobody", "/(/"], &rows(), &mut failed);
        assert_eq!(targets, ["web".into(), "0".into(), "1".into(), "nobody".into()] as [Box<str>; 4]);
        assert_eq!(failed.len(), 1);
    }

    #[test]
    fn files_are_told_by_their_ending() {
        let rows = rows();
        assert_eq!(Target::of("-", &rows), Target::Stdin);
        for word in ["x.json", "ecosystem.config.js", "dir/pm3.toml", "a.yml"] {
            assert_eq!(Target::of(word, &rows), Target::File(word));
        }
        for word in ["web", "server.js", "all", "/a.json/", "3", "a.json"] {
            assert_eq!(Target::of(word, &rows), Target::Word(word));
        }
        // What is there as a file is the file, whatever apps are called.
        let named = [Row { name: "Cargo.toml".into(), ..Row::default() }];
        assert_eq!(Target::of("Cargo.toml", &named), Target::File("Cargo.toml"));
    }
}
