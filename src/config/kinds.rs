//! The kinds of values: what each one expects, in words, and how it is read. A kind is a type, so that a key in the
//! schema cannot expect one thing and read another.

use super::tree::{Number, Tree};
use super::value::{Refused, Scalar, Val, Value, Word, Wrongs, list_or};
use super::words;
use super::{Facts, date, units};
use crate::supervisor::event::{Millis, Sig, Size};
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{Amount, ExitPolicy, Input, Kind, LogMode, Ready, Resource, Restart, Right};

pub(super) use super::units::INSTANCES_MAX;

/// A limit below this is below what a shell needs: a number that was meant as megabytes, and an endless restart.
const MEMORY_MIN: u64 = 64 << 10;

// ---- words

impl Word for bool {
    const WORDS: &'static [(&'static str, bool)] = &[("true", true), ("false", false)];
}

impl Word for Restart {
    const WORDS: &'static [(&'static str, Restart)] =
        &[("always", Restart::Always), ("on-failure", Restart::OnFailure), ("never", Restart::Never)];
    const ALSO: &'static [(&'static str, Restart)] = &[("true", Restart::Always), ("false", Restart::Never)];
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Kind)] = &[("service", Kind::Service), ("oneshot", Kind::Oneshot)];
}

impl Word for LogMode {
    const WORDS: &'static [(&'static str, LogMode)] = &[
        ("auto", LogMode::Auto),
        ("raw", LogMode::Raw),
        ("prefix", LogMode::Prefix),
        ("json", LogMode::Json),
        ("inherit", LogMode::Inherit),
        ("none", LogMode::None),
    ];
}

impl Word for Input {
    const WORDS: &'static [(&'static str, Input)] = &[("null", Input::Null), ("pipe", Input::Pipe)];
}

impl Word for ExitPolicy {
    const WORDS: &'static [(&'static str, ExitPolicy)] =
        &[("when-done", ExitPolicy::WhenDone), ("never", ExitPolicy::Never)];
}

impl Word for Right {
    const WORDS: &'static [(&'static str, Right)] = &[("view", Right::View), ("operate", Right::Operate)];
}

/// `exec_mode`: whether an app keeps its sockets to itself.
#[derive(Clone, Copy)]
pub(super) enum ExecMode {
    Cluster,
    Fork,
}

impl Word for ExecMode {
    const WORDS: &'static [(&'static str, ExecMode)] = &[("cluster", ExecMode::Cluster), ("fork", ExecMode::Fork)];
    const ALSO: &'static [(&'static str, ExecMode)] =
        &[("cluster_mode", ExecMode::Cluster), ("fork_mode", ExecMode::Fork)];
}

impl Word for Resource {
    const WORDS: &'static [(&'static str, Resource)] = &[
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
}

// ---- numbers

impl Scalar for Millis {
    fn expects() -> String {
        "a time up to 49 days, as 1500 (ms), \"200ms\", \"1.5s\", \"2m\" or \"1h\"".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Millis, Refused> {
        units::millis(text).ok_or(Refused::Expected)
    }
}

/// A time that is waited for again and again: short ones would keep the processor awake.
pub(super) struct Period(pub(super) Millis);

impl Scalar for Period {
    fn expects() -> String {
        "a time of at least \"100ms\"".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Period, Refused> {
        units::millis(text).filter(|span| *span >= Millis(100)).map(Period).ok_or(Refused::Expected)
    }
}

/// After how long something is replaced: not again and again, or never.
pub(super) struct Age(pub(super) Millis);

impl Scalar for Age {
    fn expects() -> String {
        "a time of at least \"1s\", or 0 for never".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Age, Refused> {
        units::millis(text)
            .filter(|age| *age == Millis::ZERO || *age >= Millis(1_000))
            .map(Age)
            .ok_or(Refused::Expected)
    }
}

/// `ready`: what makes a run ready.
impl Scalar for Ready {
    fn expects() -> String {
        format!(
            "exec, listen, notify, message, health, fd:N (a descriptor from 3 on) or line:TEXT (up to {} bytes of a line)",
            Ready::LINE_MAX
        )
    }

    fn parse(text: &str, _: &Facts) -> Result<Ready, Refused> {
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.parse().ok().filter(|number| *number >= 3);
            return number.map(Ready::Descriptor).ok_or(Refused::Expected);
        }
        if let Some(line) = text.strip_prefix("line:") {
            // Blanks around it would only make it harder to find.
            let line = line.trim();
            let fits = (1..=Ready::LINE_MAX).contains(&line.len()) && !line.contains(['\n', '\0']);
            return if fits { Ok(Ready::Line(line.into())) } else { Err(Refused::Expected) };
        }
        let known = Ready::WORDS.iter().find(|(word, _)| *word == text);
        let meant = || nearest(text, Ready::WORDS.iter().map(|(word, _)| *word));
        known.map(|(_, ready)| ready.clone()).ok_or_else(|| meant().map_or(Refused::Expected, Refused::Meant))
    }
}

impl Ready {
    const WORDS: [(&str, Ready); 5] = [
        ("exec", Ready::Executing),
        ("listen", Ready::Listening),
        ("notify", Ready::Notify),
        ("message", Ready::Message),
        ("health", Ready::Healthy),
    ];

    /// The word for it in a file.
    pub(super) fn word(&self) -> String {
        match self {
            Ready::Descriptor(number) => format!("fd:{number}"),
            Ready::Line(text) => format!("line:{text}"),
            Ready::Executing | Ready::Listening | Ready::Message | Ready::Notify | Ready::Healthy => {
                let known = Ready::WORDS.iter().find(|(_, known)| known == self);
                known.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
            }
        }
    }
}

/// A whole number in a range.
pub(super) struct Whole<const LEAST: i64, const MOST: i64>(pub(super) i64);

impl<const LEAST: i64, const MOST: i64> Scalar for Whole<LEAST, MOST> {
    fn expects() -> String {
        format!("a whole number from {LEAST} to {MOST}")
    }

    fn parse(text: &str, _: &Facts) -> Result<Self, Refused> {
        let range = LEAST..=MOST;
        text.parse().ok().filter(|number| range.contains(number)).map(Whole).ok_or(Refused::Expected)
    }
}

pub(super) struct Percent(pub(super) u8);

impl Scalar for Percent {
    fn expects() -> String {
        "a percentage from 0 to 100, as 20 or \"20%\"".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Percent, Refused> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        digits.parse().ok().filter(|number| *number <= 100).map(Percent).ok_or(Refused::Expected)
    }
}

/// A number of instances, or a percentage of those that there are.
impl Scalar for Amount {
    fn expects() -> String {
        format!("a number of instances from 1 to {INSTANCES_MAX}, or a percentage of them, as \"25%\"")
    }

    fn parse(text: &str, _: &Facts) -> Result<Amount, Refused> {
        units::amount(text).ok_or(Refused::Expected)
    }
}

/// How many short runs are too many.
pub(super) struct Crashes(pub(super) u32);

impl Scalar for Crashes {
    fn expects() -> String {
        "a number of at least 1, or \"unlimited\" (for no restart at all: autorestart = \"never\")".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Crashes, Refused> {
        let number = if text == "unlimited" { Some(u32::MAX) } else { text.parse().ok().filter(|number| *number > 0) };
        number.map(Crashes).ok_or(Refused::Expected)
    }
}

pub(super) struct Instances(pub(super) u32);

impl Scalar for Instances {
    fn expects() -> String {
        format!("a number up to {INSTANCES_MAX}, \"max\" or 0 (one per processor), or -1 (one less)")
    }

    fn parse(text: &str, facts: &Facts) -> Result<Instances, Refused> {
        let cpus = i64::from(facts.cpus.clamp(1, INSTANCES_MAX));
        let count = match text {
            "max" | "0" => cpus,
            number => match number.parse::<i32>() {
                Ok(less @ i32::MIN..=-1) => (cpus + i64::from(less)).max(1),
                Ok(count) => i64::from(count),
                Err(_) => return Err(nearest(number, ["max"]).map_or(Refused::Expected, Refused::Meant)),
            },
        };
        let fits = u32::try_from(count).ok().filter(|count| (1..=INSTANCES_MAX).contains(count));
        fits.map(Instances).ok_or(Refused::Expected)
    }
}

impl Instances {
    /// What is to be said of a number that leaves none of the processors: it is right on a larger machine, or a slip.
    pub(super) fn note(text: &str, facts: &Facts) -> Option<String> {
        let cpus = facts.cpus.clamp(1, INSTANCES_MAX);
        let less = text.parse::<i32>().ok().filter(|count| *count < 0)?.unsigned_abs();
        let processors = if cpus == 1 { "processor" } else { "processors" };
        (less >= cpus).then(|| format!("{text}: there are {cpus} {processors} here, so it is 1 instance"))
    }
}

/// A size of memory, absolute or a share of the container's.
pub(super) struct Memory(pub(super) u64);

impl Scalar for Memory {
    fn expects() -> String {
        format!("a size of at least {}: bytes, or text as \"20M\", \"1.5G\", \"80%\"", Size(MEMORY_MIN))
    }

    fn parse(text: &str, facts: &Facts) -> Result<Memory, Refused> {
        let bytes = match text.strip_suffix('%').map(units::number) {
            Some(Some((share, ""))) if share <= 100.0 => {
                let unknown = "there is no memory limit here that this could be a share of; \
                               give a size, run pm3 in a container with a limit, or set $MEMORY_AVAILABLE (megabytes)";
                let limit = facts.memory_limit.ok_or_else(|| Refused::Because(unknown.into()))?;
                Some((limit as f64 * share / 100.0) as u64)
            }
            Some(_) => None,
            None => units::bytes(text),
        };
        bytes.filter(|bytes| *bytes >= MEMORY_MIN || *bytes == 0).map(Memory).ok_or(Refused::Expected)
    }
}

/// How much output is remembered.
pub(super) struct LogMemory(pub(super) u32);

/// More than this belongs into a file.
const LOG_MEMORY_MAX: u64 = 64 << 20;

impl Scalar for LogMemory {
    fn expects() -> String {
        format!("a size up to {}: bytes, or text as \"64K\"; 0 for nothing", Size(LOG_MEMORY_MAX))
    }

    fn parse(text: &str, _: &Facts) -> Result<LogMemory, Refused> {
        let bytes = units::bytes(text).filter(|bytes| *bytes <= LOG_MEMORY_MAX);
        bytes.and_then(|bytes| u32::try_from(bytes).ok()).map(LogMemory).ok_or(Refused::Expected)
    }
}

impl Scalar for Sig {
    fn expects() -> String {
        "a signal's name or number, as \"TERM\", \"SIGINT\", \"RTMIN+3\" or 15".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Sig, Refused> {
        let bare = text.get(..3).filter(|start| start.eq_ignore_ascii_case("sig")).and(text.get(3..)).unwrap_or(text);
        Sig::parse(text).ok_or_else(|| nearest(bare, Sig::names()).map_or(Refused::Expected, Refused::Meant))
    }
}

/// Permission bits that new files do not get.
pub(super) struct Umask(pub(super) u16);

impl Value for Umask {
    fn expects() -> String {
        "octal permission bits, as \"022\" or 0o022".into()
    }

    fn read(val: &Val<'_>) -> Result<Umask, Wrongs> {
        let bits = match &val.node.tree {
            Tree::Number(Number { text, octal: true }) => text.parse().ok(),
            // A plain 22 is decimal and was hardly meant so.
            Tree::Nothing
            | Tree::Flag(_)
            | Tree::Number(_)
            | Tree::Text(_)
            | Tree::List(_)
            | Tree::Table(_)
            | Tree::Odd => {
                let text = val.text()?;
                let digits = text.strip_prefix("0o").unwrap_or(&text);
                u16::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))
            }
        };
        bits.filter(|bits| *bits <= 0o777).map(Umask).ok_or_else(|| val.wrong(Refused::Expected))
    }
}

// ---- texts

pub(super) struct FilePath(pub(super) Box<str>);

impl Value for FilePath {
    fn expects() -> String {
        "a path".into()
    }

    fn read(val: &Val<'_>) -> Result<FilePath, Wrongs> {
        Ok(FilePath(val.text()?.into()))
    }
}

/// A program without arguments.
pub(super) struct Program(pub(super) Box<str>);

impl Value for Program {
    fn expects() -> String {
        "a program, or \"none\"".into()
    }

    fn read(val: &Val<'_>) -> Result<Program, Wrongs> {
        let text = val.text()?;
        if text.contains(char::is_whitespace) {
            let why = "expected one program; its arguments go into interpreter_args";
            return Err(val.wrong(Refused::Because(why.into())));
        }
        Ok(Program(text.into()))
    }
}

/// What an app or a namespace may be called.
pub(super) struct Name(pub(super) Box<str>);

/// Longer names break tables and file names.
const NAME_MAX: usize = 64;

impl Name {
    pub(super) fn check(name: &str) -> Result<(), Refused> {
        let because = |why: &str| Err(Refused::Because(why.into()));
        if name.chars().count() > NAME_MAX {
            return because("expected a name of at most 64 letters");
        }
        if name.is_empty() || name.starts_with(['-', '.']) {
            return because("expected a name that starts with a letter or digit");
        }
        let is_odd = |letter: char| letter.is_whitespace() || letter.is_control() || "/\\'\"=,:".contains(letter);
        if name.contains(is_odd) {
            let mended = name.split(is_odd).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
            let meant = if Name::check(&mended).is_ok() { format!(", as {mended}") } else { String::new() };
            return because(&format!(
                "expected a name without blanks, quotes and / \\ = , : (it becomes part of file names){meant}"
            ));
        }
        if name == "all" || name.chars().all(|letter| letter.is_ascii_digit()) {
            return because("a number or `all` could not be told from an id or from all apps, in `pm3 stop`");
        }
        Ok(())
    }
}

impl Value for Name {
    fn expects() -> String {
        "a name".into()
    }

    fn read(val: &Val<'_>) -> Result<Name, Wrongs> {
        let name = val.text()?;
        Name::check(&name).map_err(|why| val.wrong(why))?;
        Ok(Name(name.into()))
    }
}

/// A user or a group.
pub(super) struct Account(pub(super) Box<str>);

impl Scalar for Account {
    fn expects() -> String {
        "a name or a number".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Account, Refused> {
        if text.contains(':') {
            return Err(Refused::Because("expected a name or a number; user and group have a key each".into()));
        }
        // 2^32 - 1 is the kernel's "leave it as it is".
        let number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        let valid = if number { text.parse::<u32>().is_ok_and(|id| id != u32::MAX) } else { !text.is_empty() };
        let clean = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        (valid && clean).then(|| Account(text.into())).ok_or(Refused::Expected)
    }
}

/// The name of a variable.
pub(super) struct Variable(pub(super) Box<str>);

impl Value for Variable {
    fn expects() -> String {
        "the name of a variable".into()
    }

    fn read(val: &Val<'_>) -> Result<Variable, Wrongs> {
        let name = val.text()?;
        if words::is_name(&name) { Ok(Variable(name.into())) } else { Err(val.wrong(Refused::Expected)) }
    }
}

pub(super) struct Cron(pub(super) Box<str>);

impl Value for Cron {
    fn expects() -> String {
        "a schedule: 5 fields (minute hour day month weekday), or 6 with seconds first".into()
    }

    fn read(val: &Val<'_>) -> Result<Cron, Wrongs> {
        // PM2's word for none, as it is for a limit of memory.
        if val.scalar().is_ok_and(|text| text == "0") {
            return Ok(Cron(Box::default()));
        }
        let text = val.text()?;
        let fields = text.split_whitespace().count();
        if !(fields == 5 || fields == 6 || text.starts_with('@')) {
            return Err(val.wrong(Refused::Because(format!("expected {}; these are {fields}", Cron::expects()))));
        }
        let why = |why: croner::errors::CronError| {
            // "Component error: Number out of bounds."
            let why = why.to_string();
            let why = why.rsplit(": ").next().unwrap_or_default().trim_end_matches('.').to_lowercase();
            val.wrong(Refused::Because(format!("expected {}: {why}", Cron::expects())))
        };
        text.parse::<croner::Cron>().map_err(why)?;
        Ok(Cron(text.into()))
    }
}

/// env_logger's filter: a level, or levels by part of pm3.
pub(super) struct LogLevel(pub(super) Box<str>);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Value for LogLevel {
    fn expects() -> String {
        list_or(LEVELS)
    }

    fn read(val: &Val<'_>) -> Result<LogLevel, Wrongs> {
        let text = val.text()?;
        if !LEVELS.contains(&&*text) {
            return Err(val.wrong(nearest(&text, LEVELS).map_or(Refused::Expected, Refused::Meant)));
        }
        Ok(LogLevel(text.into()))
    }
}

/// A format of dates, as PM2 writes them.
pub(super) struct DateFormat(pub(super) Box<str>);

impl Value for DateFormat {
    fn expects() -> String {
        "a format of dates, as \"YYYY-MM-DD HH:mm:ss\"".into()
    }

    fn read(val: &Val<'_>) -> Result<DateFormat, Wrongs> {
        let text = val.text()?;
        date::check(&text).map_err(|why| val.wrong(Refused::Because(why)))?;
        Ok(DateFormat(text.into()))
    }
}
