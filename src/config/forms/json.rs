//! JSON as PM2 reads it, which evaluates the file as a JavaScript literal: with comments, trailing commas, keys without
//! quotes, single quotes and hexadecimal numbers. Expressions are not evaluated; that is what `.js` is for.

use std::collections::BTreeSet;

use crate::config::mistakes::short;
use crate::config::tree::{Broken, DEPTH_MAX, Entry, Node, Number, Table, Tree};

pub(super) fn read(text: &str) -> Result<Node, Broken> {
    let mut reader = Reader { text, at: 0 };
    reader.skip()?;
    let node = reader.value(0)?;
    reader.skip()?;
    match reader.rest() {
        "" => Ok(node),
        _ => Err(reader.expected("the end of the file: one value is all it holds")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes a text if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let comes = self.rest().starts_with(text);
        if comes {
            self.at += text.len();
        }
        comes
    }

    /// Takes letters as long as they are of a kind.
    fn run(&mut self, is: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|letter| !is(letter)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn expected(&self, what: &str) -> Broken {
        let found = match self.peek() {
            None => "the file ends here".to_owned(),
            Some(letter) => format!("not {letter:?}"),
        };
        (self.at, format!("expected {what}, {found}"))
    }

    /// Blanks and comments.
    fn skip(&mut self) -> Result<(), Broken> {
        loop {
            self.run(|letter| letter.is_whitespace() || letter == '\u{feff}');
            let start = self.at;
            if self.take("//") {
                self.run(|letter| letter != '\n');
            } else if self.take("/*") {
                let end = self.rest().find("*/").ok_or((start, "a comment that does not end".to_owned()))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err((start, format!("nested deeper than {DEPTH_MAX}")));
        }
        let tree = match self.peek() {
            Some('{') => Tree::Table(self.table(depth)?),
            Some('[') => Tree::List(self.list(depth)?),
            Some('"' | '\'') => Tree::Text(self.text()?),
            Some(first) if first.is_ascii_digit() || "+-.".contains(first) => Tree::Number(self.number()?),
            Some(first) if is_word(first) => {
                let word = self.run(is_word);
                match word {
                    "true" => Tree::Flag(true),
                    "false" => Tree::Flag(false),
                    "null" | "undefined" => Tree::Nothing,
                    // What a script exports may have these in it.
                    "function" | "symbol" | "bigint" | "NaN" => Tree::Odd,
                    _ => {
                        let why = "JSON holds no expressions; a text is in quotes, and what is to be computed goes into a .js file";
                        return Err((start, format!("expected a value: {why}")));
                    }
                }
            }
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { tree, span: start..self.at })
    }

    /// What stands between brackets, with a comma after each but maybe the last.
    fn members(&mut self, close: &str, mut member: impl FnMut(&mut Self) -> Result<(), Broken>) -> Result<(), Broken> {
        let open = self.at;
        self.at += 1;
        loop {
            self.skip()?;
            if self.take(close) {
                return Ok(());
            }
            if self.rest().is_empty() {
                return Err((open, format!("no {close} closes this")));
            }
            member(self)?;
            self.skip()?;
            if !self.take(",") && !self.rest().starts_with(close) {
                return Err(self.expected(&format!("a comma or {close}")));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut list = Vec::new();
        self.members("]", |reader| {
            list.push(reader.value(depth + 1)?);
            Ok(())
        })?;
        Ok(list)
    }

    fn table(&mut self, depth: usize) -> Result<Table, Broken> {
        let mut table = Table::new();
        let mut names = BTreeSet::new();
        self.members("}", |reader| {
            let start = reader.at;
            let name = match reader.peek() {
                Some('"' | '\'') => reader.text()?,
                Some(first) if is_word(first) => reader.run(is_word).to_owned(),
                _ => return Err(reader.expected("a key")),
            };
            let at = start..reader.at;
            if !names.insert(name.clone()) {
                return Err((start, format!("duplicate key {name}")));
            }
            reader.skip()?;
            if !reader.take(":") {
                return Err(reader.expected("a colon"));
            }
            reader.skip()?;
            let node = reader.value(depth + 1)?;
            table.push(Entry { name, at, node });
            Ok(())
        })?;
        Ok(table)
    }

    fn number(&mut self) -> Result<Number, Broken> {
        let start = self.at;
        let word = self.run(|letter| letter.is_ascii_alphanumeric() || "+-._".contains(letter));
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", word.strip_prefix('+').unwrap_or(word)),
        };
        number(sign, digits).ok_or((start, format!("{} is no number", short(word))))
    }

    fn text(&mut self) -> Result<String, Broken> {
        let start = self.at;
        let unclosed = || (start, "a text that does not end on its line".to_owned());
        let quote = self.peek().ok_or_else(unclosed)?;
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.run(|letter| letter != quote && letter != '\\' && letter != '\n'));
            let at = self.at;
            let letter = self.peek().ok_or_else(unclosed)?;
            if letter == '\n' {
                return Err(unclosed());
            }
            self.at += letter.len_utf8();
            if letter == quote {
                return Ok(text);
            }
            let escaped = self.peek().ok_or_else(unclosed)?;
            self.at += escaped.len_utf8();
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                // A line that goes on in the next one.
                '\n' => {}
                'x' => text.push(self.code(2).and_then(char::from_u32).ok_or((at, "expected \\xHH".to_owned()))?),
                'u' => text.push(self.unicode().ok_or((at, "expected \\uHHHH, a letter in hexadecimal".to_owned()))?),
                '0'..='9' => return Err((at, format!("\\{escaped} is no escape; \\x00 gives a letter by its number"))),
                plain => text.push(plain),
            }
        }
    }

    /// So many hexadecimal digits.
    fn code(&mut self, digits: usize) -> Option<u32> {
        let code = self.rest().get(..digits)?;
        let code =
            code.chars().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(code, 16).ok())??;
        self.at += digits;
        Some(code)
    }

    /// What follows `\u`: a letter, in two halves where it is beyond 16 bits.
    fn unicode(&mut self) -> Option<char> {
        if self.take("{") {
            let digits = self.run(|digit| digit.is_ascii_hexdigit());
            let letter = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
            return self.take("}").then_some(letter);
        }
        let first = self.code(4)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        let second = self.take("\\u").then(|| self.code(4)).flatten().filter(|code| (0xdc00..0xe000).contains(code))?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }
}

/// What a name in JavaScript is made of.
fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

/// A number without its sign, in what is common to JSON, JavaScript and YAML 1.2.
pub(super) fn number(sign: &str, digits: &str) -> Option<Number> {
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return Number::whole(&format!("{sign}{digits}"), radix).filter(|_| !digits.starts_with(['+', '-']));
        }
    }
    if digits.chars().all(|digit| digit.is_ascii_digit())
        && let Some(whole) = Number::whole(&format!("{sign}{digits}"), 10)
    {
        return Some(whole);
    }
    let plain = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let float = digits.parse::<f64>().ok().filter(|float| plain && float.is_finite())?;
    // 1.0 and 1e3 are whole numbers to JavaScript, and an app would read them as such.
    let text = format!("{sign}{float}");
    Some(Number { text, octal: false })
}
