//! The options that describe an app: `--name`, `-i`, `--max-memory-restart` and the rest of PM2's. One table says for each
//! how it is typed and which key of the configuration it sets, and everything follows from a row: parsing, help, and what
//! `config` is given. What a value means is for the key to say; nothing is checked here.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{self, Typed};

/// The options of a command line that describe an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// In the table's order.
    pub(super) given: Vec<Given>,
    /// Options of PM2 that mean nothing to pm3, as typed.
    pub(super) idle: Vec<&'static str>,
}

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// With its dashes, as typed: `--name`, `-n`.
    pub(super) option: &'static str,
    /// The key that it sets, of the table `[[apps]]`.
    pub(super) key: &'static str,
    pub(super) value: Value,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

impl Given {
    fn typed(&self) -> config::Given<'_> {
        let value = match &self.value {
            Value::Flag(flag) => Typed::Flag(*flag),
            Value::Text(text) => Typed::Text(text),
            Value::List(words) => Typed::List(words.iter().map(String::as_str).collect()),
        };
        config::Given { option: self.option, key: self.key, value }
    }
}

impl Options {
    /// For `config`.
    pub(super) fn typed(&self) -> Vec<config::Given<'_>> {
        self.given.iter().map(Given::typed).collect()
    }

    /// Calls the options as this command line does, so that people find in a message what they have typed. The parser
    /// tells one name for all of an option's names.
    pub(super) fn call_as_typed(&mut self, words: &[OsString]) {
        let names = self.given.iter_mut().map(|given| &mut given.option).chain(&mut self.idle);
        for name in names {
            if let Some(row) = TABLE.iter().find(|row| row.option == *name) {
                *name = row.typed(words);
            }
        }
    }

    /// The option that sets this key, as it was typed.
    pub(super) fn called(&self, key: &str) -> Option<&'static str> {
        self.given.iter().find(|given| given.key == key).map(|given| given.option)
    }

    /// The one text that sets this key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.given.iter().find(|given| given.key == key).and_then(|given| match &given.value {
            Value::Text(text) => Some(text.as_str()),
            Value::Flag(_) | Value::List(_) => None,
        })
    }
}

/// A row of the table.
struct Row {
    /// All names with their dashes.
    option: &'static str,
    short: Option<&'static str>,
    also: &'static [&'static str],
    key: &'static str,
    takes: Takes,
    help: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// One word, which this stands for in the help.
    Word(&'static str),
    /// As many words as follow it.
    Words(&'static str),
    /// One word each time that it is given.
    Each(&'static str),
    /// Nothing: being there says this.
    Nothing(bool),
    /// Nothing: being there says this word.
    Always(&'static str),
    /// A word after `=`, or nothing, which says yes.
    Maybe(&'static str),
    /// It is one of PM2's that is accepted and without effect; true: with a word.
    Idle(bool),
}

use Takes::{Always, Each, Idle, Maybe, Nothing, Word, Words};

const fn row(option: &'static str, key: &'static str, takes: Takes, help: &'static str) -> Row {
    Row { option, short: None, also: &[], key, takes, help }
}

impl Row {
    const fn short(mut self, short: &'static str) -> Row {
        self.short = Some(short);
        self
    }

    const fn also(mut self, also: &'static [&'static str]) -> Row {
        self.also = also;
        self
    }

    fn id(&self) -> &'static str {
        self.option.trim_start_matches('-')
    }

    /// The name by which a command line calls it; its first one where that cannot be told (`-fi2`).
    fn typed(&self, words: &[OsString]) -> &'static str {
        let own = || words.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
        let long = |name: &str| own().any(|word| word.split('=').next() == Some(name));
        let short = |name: &str| own().any(|word| word.starts_with(name));
        let longs = [self.option].into_iter().chain(self.also.iter().copied());
        let short = self.short.filter(|name| short(name));
        longs.into_iter().find(|name| long(name)).or(short).unwrap_or(self.option)
    }
}

#[rustfmt::skip]
static TABLE: &[Row] = &[
    row("--name", "name", Word("NAME"), "What the app is called; default: the script's name without its ending").short("-n"),
    row("--instances", "instances", Word("N"), "How many run side by side; max or 0: one for each processor that the container may use; -1: one less").short("-i"),
    row("--namespace", "namespace", Word("NAME"), "A word for several apps, that verbs take in place of a name"),
    row("--cwd", "cwd", Word("DIR"), "The directory that the app runs in; default: this one"),
    row("--interpreter", "interpreter", Word("PROGRAM"), "The program that runs the script; none executes the script itself"),
    row("--interpreter-args", "interpreter_args", Word("ARGS"), "Arguments of the interpreter, as one word").also(&["--node-args"]),
    row("--user", "user", Word("USER"), "The user to run as; needs pm3 to be root").short("-u").also(&["--uid"]),
    row("--gid", "group", Word("GROUP"), "The group to run as").also(&["--group"]),

    row("--watch", "watch", Maybe("PATH"), "Restart when files change: in the app's directory, or below PATH").short("-w"),
    row("--ignore-watch", "ignore_watch", Each("PATTERN"), "Files whose changes do not count; may be given again"),
    row("--watch-delay", "watch_delay", Word("TIME"), "Wait this long after a change, for more of them"),

    row("--max-memory-restart", "max_memory_restart", Word("SIZE"), "Restart an instance above this much memory: 20M, 1G"),
    row("--cron-restart", "cron_restart", Word("SCHEDULE"), "Restart on a schedule: \"0 3 * * *\"").short("-c").also(&["--cron"]),
    row("--restart-delay", "restart_delay", Word("TIME"), "Wait before each restart; a plain number is in ms"),
    row("--exp-backoff-restart-delay", "exp_backoff_restart_delay", Word("TIME"), "First wait of one that grows with each restart: times 1.5, up to 15 s"),
    row("--max-restarts", "max_restarts", Word("N"), "That many short runs in a row, and the app is errored; default: 16"),
    row("--min-uptime", "min_uptime", Word("TIME"), "A run shorter than this is a short one; default: 1s"),
    row("--stop-exit-codes", "stop_exit_codes", Words("CODE"), "Exit codes that mean: do not start again"),
    row("--no-autorestart", "autorestart", Nothing(false), "Do not start again what ends"),
    row("--no-autostart", "autostart", Nothing(false), "Put the app into the list without starting it"),
    row("--wait-ready", "wait_ready", Nothing(true), "Online only when it says so: process.send('ready'), or a line to $NODE_CHANNEL_FD"),
    row("--listen-timeout", "listen_timeout", Word("TIME"), "With --wait-ready, how long that may take; default: 3s"),
    row("--listen", "listen", Each("ADDRESS"), "Open a socket for it, handed over as descriptor 3, 4, …: :3000, 127.0.0.1:80, unix:/run/a.sock"),
    row("--kill-timeout", "kill_timeout", Word("TIME"), "How long it may take to stop; then SIGKILL; default: 8s").short("-k"),
    row("--kill-signal", "kill_signal", Word("SIGNAL"), "The signal that asks it to stop; default: TERM"),
    row("--no-treekill", "treekill", Nothing(false), "End the main process alone, not what it has started"),

    row("--stdin", "stdin", Word("KIND"), "What it reads: null; or pipe, for pm3 send and pm3 attach"),
    row("--output", "out_file", Word("FILE"), "A file for its stdout").short("-o"),
    row("--error", "error_file", Word("FILE"), "A file for its stderr").short("-e"),
    row("--log", "log_file", Word("FILE"), "One file for both, beside the other two").short("-l"),
    row("--merge-logs", "merge_logs", Nothing(true), "All instances write to the same files"),
    row("--disable-logs", "log_mode", Always("none"), "Keep no output"),
    row("--log-type", "log_mode", Word("TYPE"), "How output is written: raw, prefix before each line, or json, an object a line"),
    row("--time", "time", Nothing(true), "Put the time in front of each line of output"),
    row("--log-date-format", "log_date_format", Word("FORMAT"), "The form of that time: \"YYYY-MM-DD HH:mm:ss\""),

    row("--pid", "", Idle(true), "").short("-p"),
    row("--ext", "", Idle(true), ""),
    row("--no-vizion", "", Idle(false), ""),
    row("--no-pmx", "", Idle(false), ""),
    row("--no-automation", "", Idle(false), ""),
    row("--trace", "", Idle(false), ""),
    row("--disable-trace", "", Idle(false), ""),
    row("--v8", "", Idle(false), ""),
    row("--event-loop-inspector", "", Idle(false), ""),
    row("--deep-monitoring", "", Idle(false), ""),
    row("--source-map-support", "", Idle(false), ""),
    row("--disable-source-map-support", "", Idle(false), ""),
    row("--shutdown-with-message", "", Idle(false), ""),
];

/// What the parser says of an option, with the name that this command line has for it.
pub(super) fn as_typed(text: &str, words: &[OsString]) -> String {
    let named = TABLE.iter().filter(|row| text.contains(&format!("'{} ", row.option)));
    named.fold(text.to_owned(), |text, row| {
        text.replace(&format!("'{} ", row.option), &format!("'{} ", row.typed(words)))
    })
}

/// Where the options stand in a verb's help.
const HEADING: &str = "The app";

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        command.args(TABLE.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Options::augment_args(command)
    }
}

fn argument(row: &Row) -> Arg {
    let short = row.short.and_then(|name| name.chars().nth(1));
    let arg = Arg::new(row.id()).long(row.id()).short(short).help(row.help).help_heading(HEADING);
    let arg = row.also.iter().fold(arg, |arg, also| arg.visible_alias(also.trim_start_matches('-')));
    match row.takes {
        // A word may begin with a dash: -i -1, --node-args --inspect.
        Word(name) => arg.value_name(name).allow_hyphen_values(true),
        Words(name) => arg.value_name(name).num_args(1..).action(ArgAction::Append),
        Each(name) => arg.value_name(name).action(ArgAction::Append),
        // Not a word of its own: that would be the script in `--watch app.js`.
        Maybe(name) => arg.value_name(name).num_args(0..=1).require_equals(true).default_missing_value(YES),
        Nothing(_) | Always(_) => arg.action(ArgAction::SetTrue),
        // Of no interest to anybody who reads the help.
        Idle(true) => arg.hide(true),
        Idle(false) => arg.hide(true).action(ArgAction::SetTrue),
    }
}

/// What `--watch` without a path says.
const YES: &str = "";

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Options, Error> {
        let mut options = Options::default();
        for row in TABLE {
            let is_given = matches.value_source(row.id()) == Some(ValueSource::CommandLine);
            if !is_given {
                continue;
            }
            let words = || matches.get_many::<String>(row.id()).into_iter().flatten().cloned();
            let value = match row.takes {
                Word(_) => Value::Text(words().collect()),
                Maybe(_) => match words().next().filter(|word| word != YES) {
                    Some(word) => Value::Text(word),
                    None => Value::Flag(true),
                },
                // One alone may be a list in itself: "node_modules,tmp".
                Words(_) | Each(_) => match words().collect::<Vec<_>>() {
                    one if one.len() == 1 => Value::Text(one.concat()),
                    several => Value::List(several),
                },
                Nothing(flag) => Value::Flag(flag),
                Always(word) => Value::Text(word.to_owned()),
                Idle(_) => {
                    options.idle.push(row.option);
                    continue;
                }
            };
            options.given.push(Given { option: row.option, key: row.key, value });
        }
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Options::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What is given, or the parser's complaint.
    fn options(line: &str) -> Result<Options, String> {
        let command = Options::augment_args(Command::new("start").arg(Arg::new("what").num_args(0..)));
        let words = ["start"].into_iter().chain(line.split_whitespace());
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        Ok(Options::from_arg_matches(&matches).unwrap())
    }

    fn check(line: &str, expected: &str) {
        let given: Vec<String> =
            options(line).unwrap().given.iter().map(|one| format!("{}={:?}", one.key, one.value)).collect();
        assert_eq!(given.join(" "), expected, "{line}");
    }

    #[test]
    fn options_become_keys() {
        check("app.js", "");
        check("app.js -n web -i max", r#"name=Text("web") instances=Text("max")"#);
        check("app.js --instances=2 --name=web", r#"name=Text("web") instances=Text("2")"#);
        check("app.js -i -1", r#"instances=Text("-1")"#);
        check("app.js --node-args --inspect", r#"interpreter_args=Text("--inspect")"#);
        check("app.py --interpreter=python", r#"interpreter=Text("python")"#);
        check(
            "app.js --uid www --gid www -c @daily",
            r#"user=Text("www") group=Text("www") cron_restart=Text("@daily")"#,
        );
        check(
            "app.js --no-autorestart --no-treekill --time",
            "autorestart=Flag(false) treekill=Flag(false) time=Flag(true)",
        );
        check("app.js --wait-ready --listen-timeout 5s", r#"wait_ready=Flag(true) listen_timeout=Text("5s")"#);
        check("app.js --disable-logs", r#"log_mode=Text("none")"#);
        check("app.js --log-type json", r#"log_mode=Text("json")"#);
    }

    #[test]
    fn watch_takes_no_script_for_a_path() {
        check("--watch app.js", "watch=Flag(true)");
        check("-w app.js", "watch=Flag(true)");
        check("app.js --watch=src", r#"watch=Text("src")"#);
        check("app.js --watch", "watch=Flag(true)");
    }

    #[test]
    fn lists_are_given_in_the_ways_of_pm2() {
        check("app.js --ignore-watch a --ignore-watch b", r#"ignore_watch=List(["a", "b"])"#);
        check("app.js --ignore-watch=a,b", r#"ignore_watch=Text("a,b")"#);
        check("app.js --stop-exit-codes 0 64", r#"stop_exit_codes=List(["0", "64"])"#);
        check("app.js --stop-exit-codes=0,64", r#"stop_exit_codes=Text("0,64")"#);
        check("--ignore-watch a app.js", r#"ignore_watch=Text("a")"#);
    }

    #[test]
    fn what_means_nothing_here_is_told_apart() {
        let options = options("app.js --no-pmx -p x.pid --trace").unwrap();
        assert_eq!((options.given, options.idle), (vec![], vec!["--pid", "--no-pmx", "--trace"]));
    }

    #[test]
    fn messages_name_what_was_typed() {
        for (line, typed) in [
            ("x --uid www --gid www", "--uid --gid"),
            ("x --user www --group=www", "--user --group"),
            ("x -u www -c @daily", "-u -c"),
            ("x -uwww --cron=@daily", "-u --cron"),
            ("x --node-args -r --cron-restart @daily", "--node-args --cron-restart"),
            ("x -i 2 -n web -p x.pid", "-n -i -p"),
            ("x --instances 2 --name -i", "--name --instances"),
            ("x --instances 2 -- -i", "--instances"),
        ] {
            let mut options = options(line.split(" -- ").next().unwrap()).unwrap();
            options.call_as_typed(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
            let names = options.given.iter().map(|given| given.option).chain(options.idle);
            assert_eq!(names.collect::<Vec<_>>().join(" "), typed, "{line}");
        }
    }

    #[test]
    fn an_option_that_is_none_is_refused() {
        for line in ["app.js --nope", "app.js -z", "app.js --name", "app.js --no-treekill=yes", "app.js -n a -n b"] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_row_sets_a_key_that_is_one() {
        let facts = config::Facts { cpus: 1, memory_limit: None, env: Vec::new(), start_dir: "/".into() };
        for row in TABLE.iter().filter(|row| !row.key.is_empty()) {
            let given = config::Given { option: row.option, key: row.key, value: Typed::Text("1") };
            let script = config::Given { option: "", key: "script", value: Typed::Text("x") };
            let complaints = config::of_options(&[script, given], &facts).err().unwrap_or_default();
            for complaint in complaints {
                assert!(complaint.text.starts_with(row.option), "{}: {complaint}", row.option);
            }
        }
    }
}
