//! The kinds of values that are several: lists, tables and command lines. As in `kinds`, a kind is a type, so that a
//! key cannot expect one thing and read another.

use std::net::SocketAddr;

use super::tree::{Node, Span, Tree};
use super::units;
use super::value::{Dialect, Refused, Scalar, Val, Value, Word, Wrongs, list_or};
use super::words::{self, Dollars, Lookup};
use crate::supervisor::spec::{LISTEN_MAX, LISTEN_TCP, LISTEN_UNIX, Limit, Resource, ShellVariable};

/// Exit codes.
pub(super) struct Codes(pub(super) Box<[u8]>);

impl Value for Codes {
    fn expects() -> String {
        "exit codes from 0 to 255, as [0, 143]".into()
    }

    fn read(val: &Val<'_>) -> Result<Codes, Wrongs> {
        // On a command line they come with commas, too.
        let codes = val.each("a number from 0 to 255", |item| {
            let codes: Result<Vec<u8>, _> = item.scalar()?.split(',').map(|code| code.trim().parse()).collect();
            codes.map_err(|_| item.wrong(Refused::Expected))
        })?;
        Ok(Codes(codes.concat().into()))
    }
}

/// Names of other apps, with their places.
#[derive(Default)]
pub(super) struct Names(pub(super) Vec<(Box<str>, Span)>);

impl Value for Names {
    fn expects() -> String {
        "the name of an app, or an array of names".into()
    }

    fn read(val: &Val<'_>) -> Result<Names, Wrongs> {
        val.each("the name of an app", |item| Ok((item.text()?.into(), item.node.span.clone()))).map(Names)
    }
}

/// Places to listen at, each in the one form that a spec has.
pub(super) struct Listen(pub(super) Box<[Box<str>]>);

/// One of them. Names are not looked up: an address must be the same at each start.
const PLACE: &str = "an address and a port, as \"0.0.0.0:3000\" or \":3000\" (all), or \"unix:/run/web.sock\"";

/// The longest path that an address has room for (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

impl Value for Listen {
    fn expects() -> String {
        format!("{PLACE}, or an array of these")
    }

    fn read(val: &Val<'_>) -> Result<Listen, Wrongs> {
        let places = val.each(PLACE, |item| place(&item.text()?).map_err(|why| item.wrong(why)))?;
        let twice = places.iter().enumerate().find(|(at, place)| places.iter().take(*at).any(|other| other == *place));
        if let Some((_, place)) = twice {
            return Err(val.wrong(Refused::Because(format!("{place} is there twice"))));
        }
        if places.len() > LISTEN_MAX {
            return Err(val.wrong(Refused::Because(format!("more than {LISTEN_MAX} sockets for one process"))));
        }
        Ok(Listen(places.into()))
    }
}

fn place(text: &str) -> Result<Box<str>, Refused> {
    let because = |why: String| Err(Refused::Because(why));
    if let Some(path) = text.strip_prefix(LISTEN_UNIX) {
        // As URLs have it: unix:///run/web.sock.
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') {
            return because("the path of a Unix socket starts at /, as \"unix:/run/web.sock\"".into());
        }
        if path.len() > SOCKET_PATH_MAX {
            let length = path.len();
            return because(format!("the path is {length} bytes long; a Unix socket's has {SOCKET_PATH_MAX} at most"));
        }
        return Ok(format!("{LISTEN_UNIX}{path}").into());
    }
    let address = text.strip_prefix(LISTEN_TCP).unwrap_or(text);
    // As systemd: IPv6, and IPv4 with it.
    let any = address.strip_prefix(':').map(|port| format!("[::]:{port}"));
    match any.as_deref().unwrap_or(address).parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => because("port 0 would be another one each time".into()),
        Ok(address) => Ok(format!("{LISTEN_TCP}{address}").into()),
        Err(_) => Err(Refused::Expected),
    }
}

/// Globs, as `roles::watcher::ignore` reads them.
pub(super) struct Globs(pub(super) Box<[Box<str>]>);

impl Value for Globs {
    fn expects() -> String {
        "a name or glob, or an array of them".into()
    }

    fn read(val: &Val<'_>) -> Result<Globs, Wrongs> {
        let glob = |item: &Val<'_>| {
            let text = item.text()?;
            match fast_glob::validate(&text) {
                Ok(()) => Ok(text.into()),
                Err(why) => Err(item.wrong(Refused::Because(format!("no glob: {why}")))),
            }
        };
        val.each("a name or glob", glob).map(|globs| Globs(globs.into()))
    }
}

/// Beginnings of names of variables.
pub(super) struct Filter(pub(super) Box<[Box<str>]>);

impl Value for Filter {
    fn expects() -> String {
        "true, false, or the beginnings of names, a text or an array of texts".into()
    }

    fn read(val: &Val<'_>) -> Result<Filter, Wrongs> {
        match val.scalar().as_deref() {
            Ok("true") => Ok(Filter(["".into()].into())),
            Ok("false") => Ok(Filter(Box::default())),
            Ok(_) | Err(_) => val.each("a text", |item| Ok(item.text()?.into())).map(|names| Filter(names.into())),
        }
    }
}

/// What `watch` looks at.
#[derive(Default)]
pub(super) enum Watched {
    #[default]
    Nothing,
    /// All below the app's directory.
    Here,
    Paths(Box<[Box<str>]>),
}

impl Value for Watched {
    fn expects() -> String {
        "true, false, a path or an array of paths".into()
    }

    fn read(val: &Val<'_>) -> Result<Watched, Wrongs> {
        match val.scalar().as_deref() {
            Ok("true") => return Ok(Watched::Here),
            Ok("false") => return Ok(Watched::Nothing),
            // Some YAML says true and false like this; as a path it was hardly meant.
            Ok("yes" | "no" | "on" | "off") => return Err(val.wrong(Refused::Expected)),
            Ok(_) | Err(_) => {}
        }
        let paths = val.each("a path", |item| Ok(item.text()?.into()))?;
        Ok(if paths.is_empty() { Watched::Nothing } else { Watched::Paths(paths.into()) })
    }
}

/// Words that are not expanded yet, because that needs the app's whole environment.
pub(super) enum Words {
    /// To be split.
    Line(String),
    List(Vec<String>),
}

impl Default for Words {
    fn default() -> Words {
        Words::List(Vec::new())
    }
}

impl Words {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Words::Line(line) => line.trim().is_empty(),
            Words::List(list) => list.is_empty(),
        }
    }

    /// The words, with variables replaced where `dollars` says so.
    pub(super) fn resolve(&self, dollars: Dollars, lookup: Lookup<'_>) -> Result<Box<[Box<str>]>, String> {
        let words = match self {
            Words::Line(line) => words::split(line, dollars, lookup)?,
            Words::List(list) => {
                let words = list.iter().map(|word| words::expand(word, dollars, lookup));
                words.collect::<Result<_, String>>()?
            }
        };
        Ok(words.into_iter().map(String::into_boxed_str).collect())
    }
}

impl Value for Words {
    fn expects() -> String {
        "an array of texts, or one text that is split as a shell would".into()
    }

    fn read(val: &Val<'_>) -> Result<Words, Wrongs> {
        if val.node.text().is_some() {
            return Ok(Words::Line(val.raw()?.to_owned()));
        }
        if val.node.list().is_none() {
            return Err(val.wrong(Refused::Expected));
        }
        // Numbers are welcome: `args = ["--port", 3000]`.
        let word = |item: &Val<'_>| if item.node.text().is_some() { Ok(item.raw()?.to_owned()) } else { item.scalar() };
        val.each("a text or a number", word).map(Words::List)
    }
}

/// A command line, not split or expanded yet.
pub(super) struct Line(pub(super) String);

impl Value for Line {
    fn expects() -> String {
        "a command line in one text".into()
    }

    fn read(val: &Val<'_>) -> Result<Line, Wrongs> {
        match val.raw()? {
            blank if blank.trim().is_empty() => {
                Err(val.wrong(Refused::Because("it is empty; nothing would run".into())))
            }
            line => Ok(Line(line.to_owned())),
        }
    }
}

/// Variables and their values.
pub(super) struct Env(pub(super) Vec<(String, String)>);

impl Value for Env {
    fn expects() -> String {
        "a table of variables, each a text, a number or a boolean".into()
    }

    fn read(val: &Val<'_>) -> Result<Env, Wrongs> {
        let entry = |name: &str, entry: &Val<'_>| {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(entry.wrong(Refused::Because(BAD_NAME.into())));
            }
            let kind = || Refused::Because("expected a text, a number or a boolean".into());
            let value = match &entry.node.tree {
                // As in PM2, which makes JSON of it.
                Tree::List(_) | Tree::Table(_) if entry.scope.dialect == Dialect::Pm2 => json(entry.node).to_string(),
                Tree::Odd | Tree::List(_) | Tree::Table(_) => return Err(entry.wrong(kind())),
                // `FOO:` in YAML, `null` elsewhere: this table does not set it.
                Tree::Nothing => return Ok(None),
                Tree::Text(_) | Tree::Number(_) | Tree::Flag(_) => entry.scalar()?,
            };
            Ok(Some((name.to_owned(), value)))
        };
        Ok(Env(val.entries(entry)?.into_iter().flatten().collect()))
    }
}

/// Variables of a shell: text, or false for one that it does not have.
pub(super) struct ShellEnv(pub(super) Vec<ShellVariable>);

impl Value for ShellEnv {
    fn expects() -> String {
        "a table of variables, each a text, or false: not set".into()
    }

    fn read(val: &Val<'_>) -> Result<ShellEnv, Wrongs> {
        let entry = |name: &str, entry: &Val<'_>| match &entry.node.tree {
            _ if name.is_empty() || name.contains(['=', '\0']) => Err(entry.wrong(Refused::Because(BAD_NAME.into()))),
            Tree::Flag(false) => Ok((name.into(), None)),
            Tree::Text(_) => Ok((name.into(), Some(entry.scalar()?.into()))),
            Tree::Nothing | Tree::Flag(true) | Tree::Number(_) | Tree::List(_) | Tree::Table(_) | Tree::Odd => {
                Err(entry.wrong(Refused::Because("expected a text, or false".into())))
            }
        };
        val.entries(entry).map(ShellEnv)
    }
}

/// What is wrong with the name of a variable that no kernel could take.
const BAD_NAME: &str = "a variable's name is not empty and has no = in it";

/// A value as JSON; a function is nothing there.
fn json(node: &Node) -> serde_json::Value {
    match &node.tree {
        Tree::Nothing | Tree::Odd => serde_json::Value::Null,
        Tree::Flag(flag) => (*flag).into(),
        Tree::Number(number) => serde_json::from_str(&number.text).unwrap_or_else(|_| number.text.as_str().into()),
        Tree::Text(text) => text.as_str().into(),
        Tree::List(list) => list.iter().map(json).collect(),
        Tree::Table(table) => table.iter().map(|entry| (entry.name.clone(), json(&entry.node))).collect(),
    }
}

/// Paths of env files, with their places.
#[derive(Default)]
pub(super) struct EnvFiles(pub(super) Vec<(String, Span)>);

impl Value for EnvFiles {
    fn expects() -> String {
        "a path or an array of paths; a - before one: it may be missing".into()
    }

    fn read(val: &Val<'_>) -> Result<EnvFiles, Wrongs> {
        val.each("a path", |item| Ok((item.text()?, item.node.span.clone()))).map(EnvFiles)
    }
}

/// Resource limits.
pub(super) struct Limits(pub(super) Vec<Limit>);

impl Value for Limits {
    fn expects() -> String {
        "a table, as { nofile = 4096, nproc = \"100:200\", core = \"unlimited\" }".into()
    }

    fn read(val: &Val<'_>) -> Result<Limits, Wrongs> {
        let limit = |name: &str, entry: &Val<'_>| {
            let resource = Resource::parse(name, entry.scope.facts).map_err(|why| {
                let meant =
                    if let Refused::Meant(meant) = why { format!(", did you mean {meant}?") } else { String::new() };
                let known = list_or(Resource::WORDS.iter().map(|(word, _)| *word));
                entry.wrong(Refused::Because(format!("no such limit, expected {known}{meant}")))
            })?;
            let text = entry.scalar()?;
            let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
            let expected = "expected a number, \"unlimited\", or \"soft:hard\" (sizes may be as \"64M\")";
            let value = |text: &str| match text {
                "unlimited" => Some(None),
                plain => plain.parse().ok().or_else(|| resource_size(resource, plain)).map(Some),
            };
            let both = value(soft).zip(value(hard));
            let (soft, hard) = both.ok_or_else(|| entry.wrong(Refused::Because(expected.into())))?;
            if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
                return Err(entry.wrong(Refused::Because("the soft limit is above the hard one".into())));
            }
            Ok(Limit { resource, soft, hard })
        };
        val.entries(limit).map(Limits)
    }
}

/// Limits that count bytes may have a unit.
fn resource_size(resource: Resource, text: &str) -> Option<u64> {
    match resource {
        Resource::As
        | Resource::Core
        | Resource::Data
        | Resource::Fsize
        | Resource::Memlock
        | Resource::Msgqueue
        | Resource::Rss
        | Resource::Stack => units::bytes(text),
        Resource::Cpu
        | Resource::Locks
        | Resource::Nice
        | Resource::Nofile
        | Resource::Nproc
        | Resource::Rtprio
        | Resource::Rttime
        | Resource::Sigpending => None,
    }
}
