//! How a value of the file becomes one of Rust: its place in the tree, the variables that it may name, and what is
//! said when it is not as expected. The kinds of values themselves are in `kinds`.

use std::collections::BTreeMap;

use super::Facts;
use super::tree::{Entry, Node, Span, Tree};
use super::words::{self, Dollars};
use crate::supervisor::near::nearest;
use crate::supervisor::spec::ShellVariable;

/// What stands in the file for one key, and what its variables stand for.
pub(super) struct Val<'a> {
    pub(super) node: &'a Node,
    pub(super) scope: &'a Scope<'a>,
}

/// The variables that a value may name: those of the app so far, then its shell's, then pm3's own.
pub(super) struct Scope<'a> {
    pub(super) facts: &'a Facts,
    pub(super) shell: Vec<ShellVariable>,
    pub(super) own: BTreeMap<String, String>,
    /// What dollars in a value mean. Braced, or None where the value will not be used (another profile): then its
    /// variables need not be set.
    pub(super) dollars: Dollars,
    /// Who wrote the values, and for whom.
    pub(super) dialect: Dialect,
}

/// The words are the same everywhere; what they mean differs a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// TOML: strict, and with variables in text.
    Native,
    /// A file that PM2 could have read. Text stands as it is; what only PM2 knows is passed over with a warning.
    Pm2,
    /// Options of a command line: text stands as it is, for a shell has read it already.
    Options,
    /// A spec that goes through the table once more.
    Spec,
}

impl Dialect {
    /// What messages call the two parts of a file: the apps, and pm3's own settings.
    pub(super) fn parts(self) -> (&'static str, &'static str) {
        match self {
            Dialect::Native => ("[[apps]]", "[pm3]"),
            Dialect::Pm2 | Dialect::Options | Dialect::Spec => ("apps", "pm3"),
        }
    }

    pub(super) fn dollars(self) -> Dollars {
        match self {
            Dialect::Native => Dollars::Braced,
            Dialect::Pm2 | Dialect::Options | Dialect::Spec => Dollars::Kept,
        }
    }
}

impl Scope<'_> {
    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        if let Some(value) = self.own.get(name) {
            return Some(value.clone());
        }
        let shell = self.shell.iter().find(|(known, _)| &**known == name);
        shell.map_or_else(|| self.facts.var(name), |(_, value)| value.as_deref()).map(str::to_owned)
    }
}

/// A part of a value that is not as expected.
pub(super) struct Wrong {
    /// None: the whole value.
    pub(super) part: Option<(Span, String)>,
    pub(super) why: Refused,
}

/// Why a value is not taken.
pub(super) enum Refused {
    /// It is not of its kind; what the kind expects says enough.
    Expected,
    /// So too, and this is what may have been meant.
    Meant(&'static str),
    Because(String),
}

impl Refused {
    /// In words, where `expects` completes "expected …".
    pub(super) fn text(self, expects: fn() -> String) -> String {
        match self {
            Refused::Expected => format!("expected {}", expects()),
            Refused::Meant(meant) => format!("expected {}, did you mean {meant}?", expects()),
            Refused::Because(why) => why,
        }
    }
}

/// Everything wrong with one value.
pub(super) type Wrongs = Vec<Wrong>;

impl From<Refused> for Wrong {
    fn from(why: Refused) -> Wrong {
        Wrong { part: None, why }
    }
}

/// A kind of value.
pub(super) trait Value: Sized {
    /// Completes "expected …".
    fn expects() -> String;
    fn read(val: &Val<'_>) -> Result<Self, Wrongs>;
}

/// A kind whose values are one word, in whatever type they are written: `3`, `"3"`, `"${COUNT:-3}"`.
pub(super) trait Scalar: Sized {
    fn expects() -> String;
    fn parse(text: &str, facts: &Facts) -> Result<Self, Refused>;
}

impl<T: Scalar> Value for T {
    fn expects() -> String {
        T::expects()
    }

    fn read(val: &Val<'_>) -> Result<T, Wrongs> {
        let text = val.scalar()?;
        T::parse(&text, val.scope.facts).map_err(|why| {
            // A value that came out of a variable is not seen in the file.
            let hidden = val.node.text().is_some_and(|raw| raw != text);
            vec![Wrong::from(if hidden { seen(why, &text, &T::expects()) } else { why })]
        })
    }
}

fn seen(why: Refused, text: &str, expects: &str) -> Refused {
    Refused::Because(match why {
        Refused::Expected | Refused::Meant(_) => format!("expected {expects}, not {text:?}"),
        Refused::Because(why) => format!("{why}, not {text:?}"),
    })
}

/// A closed set of words.
pub(super) trait Word: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
    /// Other words for the same that PM2 has; taken, not advertised.
    const ALSO: &'static [(&'static str, Self)] = &[];
}

impl<T: Word> Scalar for T {
    fn expects() -> String {
        list_or(T::WORDS.iter().map(|(word, _)| *word))
    }

    fn parse(text: &str, _: &Facts) -> Result<T, Refused> {
        let known = T::WORDS.iter().chain(T::ALSO).find(|(word, _)| *word == text);
        let meant = || nearest(text, T::WORDS.iter().map(|(word, _)| *word));
        known.map(|(_, value)| *value).ok_or_else(|| meant().map_or(Refused::Expected, Refused::Meant))
    }
}

/// `a, b or c`.
pub(super) fn list_or<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = words.into_iter().collect();
    match words.pop() {
        Some(last) if !words.is_empty() => format!("{} or {last}", words.join(", ")),
        last => last.unwrap_or_default().to_owned(),
    }
}

impl Val<'_> {
    /// The value as one word; containers and dates have none.
    pub(super) fn scalar(&self) -> Result<String, Wrongs> {
        match &self.node.tree {
            Tree::Text(text) => self.expand(text),
            Tree::Number(number) => Ok(number.text.clone()),
            Tree::Flag(flag) => Ok(flag.to_string()),
            Tree::Nothing | Tree::Odd | Tree::List(_) | Tree::Table(_) => Err(self.wrong(Refused::Expected)),
        }
    }

    /// The value as a text that is not empty, with its variables replaced.
    pub(super) fn text(&self) -> Result<String, Wrongs> {
        let text = self.raw()?;
        match self.expand(text)? {
            empty if empty.is_empty() => Err(self.wrong(Refused::Because("it is empty; leave it out".into()))),
            text => Ok(text),
        }
    }

    /// The text as it stands.
    pub(super) fn raw(&self) -> Result<&str, Wrongs> {
        let text = self.node.text().ok_or_else(|| self.wrong(Refused::Expected))?;
        match text.find('\0') {
            Some(_) => {
                Err(self.wrong(Refused::Because("it has a NUL byte in it, which the kernel cannot take".into())))
            }
            None => Ok(text),
        }
    }

    fn expand(&self, text: &str) -> Result<String, Wrongs> {
        self.raw()?;
        words::expand(text, self.scope.dollars, &|name| self.scope.lookup(name))
            .map_err(|why| self.wrong(Refused::Because(why)))
    }

    pub(super) fn wrong(&self, why: Refused) -> Wrongs {
        vec![why.into()]
    }

    /// One value, or those of an array, where each is expected to be an `item`.
    pub(super) fn each<T>(&self, item: &str, read: impl Fn(&Val<'_>) -> Result<T, Wrongs>) -> Result<Vec<T>, Wrongs> {
        let Some(items) = self.node.list() else { return Ok(vec![read(self)?]) };
        let items = items.iter().enumerate().map(|(index, node)| {
            let named = |mut wrong: Wrong| {
                if let Refused::Expected = wrong.why {
                    wrong.why = Refused::Because(format!("expected {item}"));
                }
                wrong
            };
            let wrongs = |wrongs: Wrongs| wrongs.into_iter().map(named).collect();
            let result = read(&Val { node, scope: self.scope }).map_err(wrongs);
            result.map_err(|wrongs| inside(wrongs, &node.span, &format!("[{index}]")))
        });
        gather(items)
    }

    /// The entries of a table, by name.
    pub(super) fn entries<T>(&self, read: impl Fn(&str, &Val<'_>) -> Result<T, Wrongs>) -> Result<Vec<T>, Wrongs> {
        let Some(entries) = self.node.table() else { return Err(self.wrong(Refused::Expected)) };
        let entries = entries.iter().map(|Entry { name, at, node }| {
            let wrongs = |wrongs| inside(wrongs, at, &format!(".{name}"));
            read(name, &Val { node, scope: self.scope }).map_err(wrongs)
        });
        gather(entries)
    }
}

/// Moves mistakes into a part of a larger value.
fn inside(wrongs: Wrongs, span: &Span, path: &str) -> Wrongs {
    let place = |part: Option<(Span, String)>| match part {
        Some((inner, below)) => (inner, format!("{path}{below}")),
        None => (span.clone(), path.to_owned()),
    };
    wrongs.into_iter().map(|wrong| Wrong { part: Some(place(wrong.part)), why: wrong.why }).collect()
}

/// All values, or all that is wrong with any.
fn gather<T>(results: impl Iterator<Item = Result<T, Wrongs>>) -> Result<Vec<T>, Wrongs> {
    let (mut values, mut wrongs) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => wrongs.extend(more),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}
