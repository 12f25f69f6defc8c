//! The words of the command line: one enum from which parsing, help and suggestions follow.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, FromArgMatches, Parser, Subcommand};

use super::verbs::{ASK_NOBODY, Verb};
use super::{Exit, Report, dropped, options};

#[derive(Debug, Parser)]
#[command(
    name = "pm3",
    about = "A process manager with PM2's command line: in the background, or as PID 1 of a container.",
    disable_version_flag = true,
    subcommand_required = false,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = "As PID 1, bare `pm3` means `pm3 init`. `pm3 VERB --help` tells more, with an example."
)]
struct Line {
    /// The control socket of the pm3 that is meant: a path, or @NAME for an abstract name
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Say nothing but errors
    #[arg(short, long, global = true)]
    silent: bool,

    // See `super::style`.
    /// No colours
    #[arg(long, global = true, hide = true)]
    no_color: bool,

    /// Print the version and nothing else
    #[arg(short = 'V', short_alias = 'v', long)]
    version: bool,

    #[command(subcommand)]
    verb: Option<Word>,
}

/// The verbs as they are typed.
#[derive(Debug, Subcommand)]
enum Word {
    /// Supervise the apps of a file until they are done, as PID 1 or not
    #[command(after_help = "Examples:\n  pm3 init ecosystem.config.js\n  pm3 init pm3.toml --env prod")]
    Init(InitArgs),

    /// Run one command as PID 1: forward signals, reap orphans, end with its code
    #[command(
        disable_help_flag = true,
        override_usage = "pm3 run [FLAGS] [--] COMMAND [ARG]…",
        help_template = "{about}\n\nUsage: {usage}\n\n`pm3 run --help` tells its flags.\n"
    )]
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        words: Vec<OsString>,
    },

    #[command(flatten)]
    Verb(Verb),
}

/// What `pm3 init` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// The file; default: $PM3_CONFIG, ./pm3.toml, ./ecosystem.config.js (.json, .yml, …), /etc/pm3/pm3.toml, /etc/pm3.toml
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The same, as an option
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(super) config: Option<PathBuf>,

    /// Apply the apps' env_PROFILE tables over env
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    pub env: Option<String>,

    /// These apps alone, with commas between their names
    #[arg(long, value_name = "NAMES", value_parser = NonEmptyStringValueParser::new())]
    pub only: Option<String>,

    /// Begin without apps and never end by itself: the supervisor in the background, as `pm3 start` starts it
    #[arg(long, hide = true, conflicts_with_all = ["file", "config", "env", "only"])]
    pub background: bool,

    /// A descriptor that gets a byte once the supervisor can be asked
    #[arg(long, hide = true, value_name = "FD")]
    pub ready_fd: Option<RawFd>,

    /// A descriptor of a packed plan
    #[arg(long, hide = true, value_name = "FD", conflicts_with_all = ["file", "config", "env", "only", "background"])]
    pub packed: Option<RawFd>,

    /// Where the control socket is to be.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
}

/// What may be said to every verb.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Common {
    /// `--socket`.
    pub(super) socket: Option<PathBuf>,
    pub(super) silent: bool,
}

/// What a command line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Init(InitArgs),
    Verb(Verb, Common),
    /// Nothing but saying this.
    Said(Report),
}

pub(super) fn parse(words: Vec<OsString>) -> Parsed {
    match plain_init(&words) {
        Some(init) => Parsed::Init(init),
        None => parse_any(words),
    }
}

/// `init` and its options, if there is nothing to explain or to complain of. What the parser for all verbs leaves behind
/// is a seventh of all memory that init has to itself; so init, which never ends, goes without it.
fn plain_init(words: &[OsString]) -> Option<InitArgs> {
    let mut words = words.iter().map(|word| word.to_str().filter(|word| !word.is_empty()));
    words.next().filter(|verb| *verb == Some("init"))?;
    let (mut file, mut background) = (None, false);
    let mut options = ["--config", "--env", "--only", "--socket", "--ready-fd", "--packed"].map(|name| (name, None));
    while let Some(word) = words.next() {
        let word = word?;
        let (slot, value) = if word == "--background" && !background {
            background = true;
            continue;
        } else if word.starts_with('-') {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let (_, slot) = options.iter_mut().find(|(known, _)| *known == name)?;
            (slot, value.or_else(|| words.next().flatten().filter(|value| !value.starts_with('-')))?)
        } else {
            (&mut file, word)
        };
        if slot.is_some() || value.is_empty() {
            return None;
        }
        *slot = Some(value);
    }
    let [(_, config), (_, env), (_, only), (_, socket), (_, ready_fd), (_, packed)] = options;
    let from = [file.is_some(), config.is_some(), background, packed.is_some()];
    if from.into_iter().filter(|given| *given).count() > 1
        || ((env.is_some() || only.is_some()) && (background || packed.is_some()))
    {
        return None;
    }
    // A number that is none is for the other parser to complain of.
    let number = |text: Option<&str>| text.map(str::parse).transpose().ok();
    Some(InitArgs {
        file: file.or(config).map(PathBuf::from),
        config: None,
        env: env.map(str::to_owned),
        only: only.map(str::to_owned),
        background,
        ready_fd: number(ready_fd)?,
        packed: number(packed)?,
        socket: socket.map(PathBuf::from),
    })
}

/// All words. Each verb's own are not made before they are asked for.
fn command() -> clap::Command {
    <Line as clap::CommandFactory>::command()
}

/// With each verb's own words, for those who describe them: help, completion, manual.
pub(super) fn whole_command() -> clap::Command {
    // It is taken all the same: somebody may have an alias of pm3 with it.
    let socket = clap::Arg::new("socket").long("socket").value_name("PATH").hide(true);
    let asks_nobody = |verb: &clap::Command| ASK_NOBODY.contains(&verb.get_name());
    let mut command =
        command().mut_subcommands(|verb| if asks_nobody(&verb) { verb.arg(socket.clone()) } else { verb });
    command.build();
    command
}

/// Only the words of the verb that is typed are made: those of all forty would be most of what a verb costs. Who has to be
/// told something, help or a mistake, is told by a parser that knows them all.
fn line(words: &[OsString]) -> Result<Line, clap::Error> {
    let words = || [OsString::from("pm3")].into_iter().chain(words.iter().cloned());
    Line::try_parse_from(words()).or_else(|_| Line::from_arg_matches(&whole_command().try_get_matches_from(words())?))
}

fn parse_any(words: Vec<OsString>) -> Parsed {
    let line = match line(&words) {
        Ok(line) => line,
        Err(error) => return Parsed::Said(said(&error, &words)),
    };
    if line.version {
        return Parsed::Said(Report::done(concat!(env!("CARGO_PKG_VERSION"), "\n")));
    }
    match line.verb {
        Some(Word::Init(init)) => Parsed::Init(init.settled(line.socket)),
        Some(Word::Verb(mut verb)) => {
            if let Some(options) = verb.options_mut() {
                options.call_as_typed(&words);
            }
            Parsed::Verb(verb, Common { socket: line.socket, silent: line.silent })
        }
        Some(Word::Run { .. }) => {
            Parsed::Said(Report::failed(Exit::Usage, "run must be the first word, as in `pm3 run -- COMMAND`"))
        }
        None => {
            let help = whole_command().render_help().to_string();
            Parsed::Said(Report { out: String::new(), err: help, exit: Exit::Usage })
        }
    }
}

impl InitArgs {
    fn settled(self, socket: Option<PathBuf>) -> InitArgs {
        InitArgs { file: self.file.clone().or(self.config), config: None, socket, ..self }
    }
}

/// What the parser says: help as it is, and a mistake in one line with what to do next.
fn said(error: &clap::Error, words: &[OsString]) -> Report {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        return Report::done(format!("{}\n", text.trim_end()));
    }
    let line = command();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
    {
        let verbs: Vec<&str> = line
            .get_subcommands()
            .flat_map(|verb| [verb.get_name()].into_iter().chain(verb.get_all_aliases()))
            .collect();
        return Report::failed(Exit::Usage, dropped::instead(word, verbs.into_iter()));
    }
    let verb = words.iter().filter_map(|word| word.to_str()).find(|word| line.find_subcommand(word).is_some());
    // The first paragraphs are what is wrong and tips; then usage follows, which `--help` has too.
    let what = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    // Nobody who has mistyped an option wants it to be a value.
    let what: Vec<&str> = what.filter(|line| !line.starts_with("tip: to pass")).collect();
    let what = what.split(|line| line.is_empty()).map(|lines| lines.join(" ")).filter(|part| !part.is_empty());
    let what: Vec<String> = what.filter(|part| !part.starts_with("For more")).collect();
    let what = what.join("; ").replace("error: ", "").replace("tip: ", "");
    let what = options::as_typed(&what, words);
    let what = what.replace("invalid digit found in string", "expected a number");
    let verb = verb.map(|verb| format!(" {verb}")).unwrap_or_default();
    Report::failed(Exit::Usage, format_args!("{what}; see `pm3{verb} --help`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn the_definition_holds_together() {
        whole_command().debug_assert();
    }

    /// The verb, and what is said to all.
    fn verb(line: &str) -> (Verb, Common) {
        match parsed(line) {
            Parsed::Verb(verb, common) => (verb, common),
            other @ (Parsed::Init(_) | Parsed::Said(_)) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_mean_verbs() {
        for line in ["ls", "l", "ps", "status"] {
            assert_eq!(verb(line), verb("list"), "{line}");
        }
        assert_ne!(verb("ls --json"), verb("ls"));
        assert_eq!(verb("ping --socket @x").1.socket, Some("@x".into()));
        for line in ["-s list", "list -s", "list --silent", "--silent ls"] {
            assert_eq!(verb(line), (verb("list").0, Common { silent: true, socket: None }), "{line}");
        }
        assert_eq!(verb("-s start a.js"), verb("start a.js -s"));
        assert_eq!(verb("--socket /s restart web 3 all"), verb("restart web 3 all --socket /s"));
        assert_ne!(verb("stop -- -odd"), verb("stop odd"));
        assert_eq!(verb("list --no-color"), verb("list"));
        assert_eq!(verb("--no-color start a.js"), verb("start a.js"));
    }

    #[test]
    fn init_takes_its_file_either_way() {
        let init = |file: &str, env: Option<&str>, socket: Option<&str>| {
            let (file, env) = (Some(file.into()), env.map(str::to_owned));
            Parsed::Init(InitArgs { file, env, socket: socket.map(PathBuf::from), ..InitArgs::default() })
        };
        assert_eq!(parsed("init a.toml"), init("a.toml", None, None));
        assert_eq!(parsed("init --config a.toml --env prod --socket /s"), init("a.toml", Some("prod"), Some("/s")));
        assert_eq!(parsed("init"), Parsed::Init(InitArgs::default()));
    }

    #[test]
    fn the_short_way_to_init_is_the_same_way() {
        let words = [
            "init",
            "a",
            "",
            "b.toml",
            "--config",
            "--config=c",
            "--env",
            "--env=p",
            "-x",
            "--",
            "--socket",
            "-h",
            "--background",
            "--background=",
            "--ready-fd",
            "--ready-fd=3",
            "--packed=4",
            "--packed",
            "7",
        ];
        // All command lines of up to three of these words after `init`.
        let mut lines: Vec<Vec<&str>> = vec![vec!["init"]];
        let mut from = 0;
        for _ in 0..3 {
            let to = lines.len();
            for at in from..to {
                lines.extend(words.map(|word| [lines[at].as_slice(), &[word]].concat()));
            }
            from = to;
        }
        let mut short = 0;
        for line in lines {
            let words: Vec<OsString> = line.iter().map(OsString::from).collect();
            if let Some(init) = plain_init(&words) {
                assert_eq!(Parsed::Init(init), parse_any(words), "{line:?}");
                short += 1;
            }
        }
        assert!(short > 50, "{short}");
        for line in ["init", "init a", "init --config a --env=p --socket @s"] {
            assert!(plain_init(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).is_some(), "{line}");
        }
    }

    #[test]
    fn the_version_is_bare() {
        for line in ["--version", "-V", "-v", "--version list"] {
            assert_eq!(parsed(line), Parsed::Said(Report::done(concat!(env!("CARGO_PKG_VERSION"), "\n"))), "{line}");
        }
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        for (line, part) in [
            ("", "Verbs:"),
            ("lst", "did you mean list? `pm3 --help`"),
            ("deploy prod", "not in pm3; pm3 copies no code"),
            ("module:install pm2-logrotate", "no modules"),
            ("xyzzy", "no such verb; `pm3 --help`"),
            (
                "list --jsn",
                "unexpected argument '--jsn' found; a similar argument exists: '--json'; see `pm3 list --help`",
            ),
            ("start app.js --nmae x", "a similar argument exists: '--name'; see `pm3 start --help`"),
            ("restart web x --nmae", "a similar argument exists: '--name'; see `pm3 restart --help`"),
            ("scale web", "<N>; see `pm3 scale --help`"),
            ("scale web abc", "expected a number, +N or -N"),
            ("sendSignal NOPE web", "expected a signal"),
            ("stop", "<TARGET>"),
            ("reload web --canary 0", "expected a percentage, as 5%, or a number of instances"),
            ("reload web --canary 101%", "expected a percentage"),
            ("reload web --canary 5% --promote", "cannot be used with"),
            ("reload web --rollback --abort", "cannot be used with"),
            ("restart web --canary 5%", "unexpected argument '--canary'"),
            ("start a.js --uid", "a value is required for '--uid <USER>'"),
            ("start a.js -u", "a value is required for '-u <USER>'"),
            ("start a.js -c x --cron y", "the argument '--cron <SCHEDULE>' cannot be used multiple times"),
            ("start a.json --env=", "a value is required for '--env <PROFILE>'"),
            ("stop a.json --only=", "a value is required for '--only <NAMES>'"),
            ("check --env=", "a value is required for '--env <PROFILE>'"),
            ("init a --env=", "a value is required for '--env <PROFILE>'"),
            ("start a.js --attach -s", "cannot be used with"),
            ("init a b", "unexpected argument 'b'"),
            ("init a --config b", "cannot be used with"),
            ("--socket x run y", "run must be the first word"),
        ] {
            let Parsed::Said(Report { out, err, exit }) = parsed(line) else { panic!("{line}: not refused") };
            assert_eq!((out.as_str(), exit), ("", Exit::Usage), "{line}");
            assert!(err.contains(part), "{line}: {err}");
            // Everything but the list of verbs is one line.
            assert!(line.is_empty() || err.starts_with("[PM3][ERROR] ") && err.lines().count() == 1, "{line}: {err}");
        }
    }

    #[test]
    fn help_offers_a_socket_to_those_who_ask() {
        for verb in command().get_subcommands().map(clap::Command::get_name).filter(|name| *name != "run") {
            let Parsed::Said(Report { out, .. }) = parsed(&format!("{verb} --help")) else { panic!("no help") };
            assert_eq!(out.contains("--socket"), !ASK_NOBODY.contains(&verb), "{out}");
        }
        assert_eq!(verb("check --socket x"), verb("--socket x check"));
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        let line = command();
        for verb in line.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "run") {
            let Parsed::Said(Report { out, exit, .. }) = parsed(&format!("{verb} --help")) else { panic!("no help") };
            assert_eq!(exit, Exit::Done);
            assert!(out.contains("Example") && out.contains(&format!("\n  pm3 {verb}")), "{out}");
        }
    }
}
