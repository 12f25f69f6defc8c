//! Text within values: `${VAR}`, command lines, and the lines of an `env_file`. Nothing here asks a shell, and what a
//! variable holds is never looked at again: it can neither add words nor name further variables.

/// Which dollars stand for variables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dollars {
    /// `${NAME}` and `${NAME:-default}` alone, so that a password with a `$` in it stays what it is.
    Braced,
    /// `$NAME` too: in command lines people expect it.
    Plain,
    /// None: a dollar is a dollar.
    Kept,
}

/// What a name stands for, None if it is not set.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with its variables replaced; `$$` is one dollar.
pub(super) fn expand(text: &str, dollars: Dollars, lookup: Lookup<'_>) -> Result<String, String> {
    if dollars == Dollars::Kept {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (value, after) = variable(after, dollars, lookup)?;
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What the text after a dollar stands for, and what follows it.
fn variable<'t>(after: &'t str, dollars: Dollars, lookup: Lookup<'_>) -> Result<(String, &'t str), String> {
    let unset = |name: &str| format!("{name} is not set; ${{{name}:-value}} gives it a default, $$ is a plain dollar");
    if let Some(rest) = after.strip_prefix('$') {
        return Ok(("$".into(), rest));
    }
    if let Some(rest) = after.strip_prefix('{') {
        let (inside, rest) = rest.split_once('}').ok_or("${ without }; $$ is a plain dollar")?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(format!("${{{inside}}}: expected ${{NAME}} or ${{NAME:-default}}; $$ is a plain dollar"));
        }
        // As in a shell, `:-` also replaces a value that is empty.
        let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        return Ok((value.or(default.map(str::to_owned)).ok_or_else(|| unset(name))?, rest));
    }
    let end = after.find(|other: char| !other.is_ascii_alphanumeric() && other != '_').unwrap_or(after.len());
    match after.split_at_checked(end) {
        Some((name, rest)) if dollars == Dollars::Plain && is_name(name) => {
            Ok((lookup(name).ok_or_else(|| unset(name))?, rest))
        }
        _ => Ok(("$".into(), after)),
    }
}

/// Whether a shell would take this for a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    let part = |other: char| other.is_ascii_alphanumeric() || other == '_';
    text.chars().all(part) && text.starts_with(|first: char| !first.is_ascii_digit())
}

/// The words of a command line: blanks separate them, quotes and backslashes work as in a shell, variables are
/// replaced outside of single quotes where `dollars` says so, and nothing else is special.
pub(super) fn split(line: &str, dollars: Dollars, lookup: Lookup<'_>) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // None between words: an empty pair of quotes is a word, an unset variable's nothing is none.
    let mut word: Option<String> = None;
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..).unwrap_or_default();
        rest = match letter {
            ' ' | '\t' | '\n' | '\r' => {
                words.extend(word.take());
                after
            }
            '\'' => {
                let (inside, after) = after.split_once('\'').ok_or("a ' is not closed")?;
                word.get_or_insert_default().push_str(inside);
                after
            }
            '"' => quoted(after, word.get_or_insert_default(), dollars, lookup)?,
            '\\' => {
                let mut chars = after.chars();
                word.get_or_insert_default().push(chars.next().ok_or("nothing follows the last \\")?);
                chars.as_str()
            }
            '$' if dollars != Dollars::Kept => {
                let (value, after) = variable(after, dollars, lookup)?;
                if !value.is_empty() {
                    word.get_or_insert_default().push_str(&value);
                }
                after
            }
            other => {
                word.get_or_insert_default().push(other);
                after
            }
        };
    }
    words.extend(word);
    Ok(words)
}

/// What stands between double quotes, from behind the first; returns what follows the second.
fn quoted<'t>(text: &'t str, word: &mut String, dollars: Dollars, lookup: Lookup<'_>) -> Result<&'t str, String> {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..).unwrap_or_default();
        rest = match letter {
            '"' => return Ok(after),
            '\\' if after.starts_with(['"', '\\', '$', '`']) => {
                let mut chars = after.chars();
                word.extend(chars.next());
                chars.as_str()
            }
            '$' if dollars != Dollars::Kept => {
                let (value, after) = variable(after, dollars, lookup)?;
                word.push_str(&value);
                after
            }
            other => {
                word.push(other);
                after
            }
        };
    }
    Err("a \" is not closed".into())
}

/// Words joined so that a shell, and [`split`], would read the same words again.
pub(super) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quote = |word: &str| {
        let plain = |letter: char| letter.is_alphanumeric() || "_-./:=@%+,".contains(letter);
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Something wrong in an `env_file`: the byte where, and what.
pub(super) type BadLine = (usize, String);

/// The variables of an `env_file`: lines of `KEY=VALUE`, with or without `export `; `#` starts a comment at the start
/// of a line and after a blank. Single quotes keep everything, double quotes know `\n \t \r \" \\ \$`; both may span
/// lines. Dollars are not special.
pub(super) fn env_lines(text: &str) -> (Vec<(String, String)>, Vec<BadLine>) {
    let (mut variables, mut bad) = (Vec::new(), Vec::new());
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let line = rest.split('\n').next().unwrap_or_default();
        let next = rest.get(line.len() + 1..).unwrap_or_default();
        rest = match env_line(line, rest) {
            Ok(None) => next,
            Ok(Some((name, value, after))) => {
                variables.push((name, value));
                after
            }
            Err((offset, why)) => {
                bad.push((at + offset, why));
                next
            }
        };
    }
    (variables, bad)
}

type Assignment<'t> = Option<(String, String, &'t str)>;

/// One assignment and what follows it; `rest` starts with `line`. Messages show nothing of the line: it may be a
/// secret, and a key in several lines has some that look like names.
fn env_line<'t>(line: &str, rest: &'t str) -> Result<Assignment<'t>, BadLine> {
    let indent = line.len() - line.trim_start().len();
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(None);
    }
    let (name, _) = line.split_once('=').ok_or((indent, "expected KEY=VALUE".to_owned()))?;
    let value_at = name.len() + 1;
    let name = name.trim().strip_prefix("export ").unwrap_or(name).trim();
    if !is_name(name) {
        return Err((indent, "expected the name of a variable before the =".into()));
    }
    let raw = rest.get(value_at..).unwrap_or_default();
    let blanks = raw.len() - raw.trim_start_matches([' ', '\t']).len();
    let raw = raw.get(blanks..).unwrap_or_default();
    let (value, after) = match raw.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let unclosed = || (value_at + blanks, format!("a {quote} is not closed"));
            let (value, after) = env_quoted(quote, raw.get(1..).unwrap_or_default()).ok_or_else(unclosed)?;
            let tail = after.split('\n').next().unwrap_or_default();
            if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
                let at = rest.len() - after.len() + tail.len() - tail.trim_start().len();
                return Err((at, format!("expected nothing after the closing {quote}")));
            }
            (value, after)
        }
        _ => {
            let line = raw.split('\n').next().unwrap_or_default();
            // A `#` within a word belongs to it: colours, fragments of URLs.
            let blank_before = |at: usize| if at == 0 { blanks > 0 } else { ends_blank(line.get(..at)) };
            let comment = line.match_indices('#').find(|(at, _)| blank_before(*at));
            let value = comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line).trim();
            (value.to_owned(), raw.get(line.len()..).unwrap_or_default())
        }
    };
    let after = after.split_once('\n').map_or("", |(_, next)| next);
    Ok(Some((name.to_owned(), value, after)))
}

fn ends_blank(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.ends_with([' ', '\t']))
}

/// What stands before the closing quote, and what follows that.
fn env_quoted(quote: char, text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            end if end == quote => return Some((value, chars.as_str())),
            '\\' if quote == '"' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                plain @ ('"' | '\\' | '$') => value.push(plain),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn vars(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("3000".into()),
            "EMPTY" => Some(String::new()),
            "TWO" => Some("a b".into()),
            "NESTED" => Some("${PORT} 'x".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_in_values() {
        for (text, value) in [
            ("", ""),
            ("plain", "plain"),
            ("${PORT}", "3000"),
            (":${PORT}/${PORT}.", ":3000/3000."),
            ("${NONE:-80}", "80"),
            ("${EMPTY:-80}", "80"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$PORT", "$PORT"),
            ("p$ssw$rd $", "p$ssw$rd $"),
            ("$${PORT} $$", "${PORT} $"),
            ("${NESTED}", "${PORT} 'x"),
        ] {
            assert_eq!(expand(text, Dollars::Braced, &vars).unwrap(), value, "{text}");
        }
        assert_eq!(expand("$PORT/$x-$1", Dollars::Braced, &vars).unwrap(), "$PORT/$x-$1");
        assert_eq!(expand("$PORT/$1$", Dollars::Plain, &vars).unwrap(), "3000/$1$");
        for text in ["${NONE}", "${", "${PORT", "${}", "${PORT-80}", "${1}", "${A B}"] {
            assert!(expand(text, Dollars::Braced, &vars).is_err(), "{text}");
        }
    }

    #[test]
    fn command_lines() {
        let cases: [(&str, &[&str]); 11] = [
            ("", &[]),
            ("  \t\n ", &[]),
            ("node server.js", &["node", "server.js"]),
            (r#"a 'b c' "d e" f\ g"#, &["a", "b c", "d e", "f g"]),
            (r#"x'y'"z" '' """#, &["xyz", "", ""]),
            (r#"'$PORT \n' "\$PORT \" \n $PORT" \$PORT"#, &[r"$PORT \n", r#"$PORT " \n 3000"#, "$PORT"]),
            ("-p $PORT --x=${PORT} $TWO", &["-p", "3000", "--x=3000", "a b"]),
            (r#"$EMPTY x "$EMPTY""#, &["x", ""]),
            ("a | b > c; d & *", &["a", "|", "b", ">", "c;", "d", "&", "*"]),
            ("$NESTED", &["${PORT} 'x"]),
            ("grüße 'ü ö'", &["grüße", "ü ö"]),
        ];
        for (line, words) in cases {
            let split = split(line, Dollars::Plain, &vars).unwrap();
            assert_eq!(split, words, "{line}");
            assert_eq!(
                super::split(&join(split.iter().map(String::as_str)), Dollars::Plain, &|_| None).unwrap(),
                split,
                "{line}"
            );
        }
        let kept = split(r#"$PORT ${X} '$y' "a$ \$" $$"#, Dollars::Kept, &vars).unwrap();
        assert_eq!(kept, ["$PORT", "${X}", "$y", "a$ $", "$$"]);
        for line in ["'", "a 'b", "\"", "\"a\\\"", "a\\", "$NONE", "${NONE}"] {
            assert!(split(line, Dollars::Plain, &vars).is_err(), "{line}");
        }
    }

    #[test]
    fn env_files() {
        let text = "\u{feff}# a comment\r\nA=1\r\nexport B = two words # note\n  C='#$x \\n'\n\
                    D=\"a\\n\\\"b\\\" \\$ \\x\" # note\n\nE= # note\nF=#fff\nG=a#b\nH=\"two\nlines\"\nI=x=y\nJ='' ";
        let (variables, bad) = env_lines(text);
        let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(bad, []);
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "#$x \\n"),
            ("D", "a\n\"b\" $ \\x"),
            ("E", ""),
            ("F", "#fff"),
            ("G", "a#b"),
            ("H", "two\nlines"),
            ("I", "x=y"),
            ("J", ""),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn bad_lines_of_env_files_do_not_show_values() {
        let (variables, bad) = env_lines("A=1\n nonsense\n1B=secret\nC='open\nD=\"x\" secret\nE=2");
        assert_eq!(variables.len(), 2);
        let expected = [
            (5, "expected KEY=VALUE"),
            (14, "expected the name of a variable before the ="),
            (26, "a ' is not closed"),
            (38, "expected nothing after the closing \""),
        ];
        assert_eq!(bad, expected.map(|(at, why)| (at, why.to_owned())));
    }
}
