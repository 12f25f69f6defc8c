//! The command line of `pm3 run`. Parsed by hand: PID 1 has a budget of 80 kB and of half a millisecond to its child's
//! main, and a parser for forty verbs takes a good part of both. Parsing stops at the first word that is no flag, so
//! that `pm3 run sh -c '…'` gives `-c` to the shell. Reads nothing but its arguments.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use crate::config;
use crate::supervisor::event::{Millis, Sig};

/// What `pm3 run` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// Signals go to the child's whole process group.
    pub(super) group: bool,
    /// What is forwarded instead of a signal; None: nothing. The last rule for a signal counts.
    pub(super) rewrite: Vec<(Sig, Option<Sig>)>,
    /// Exit codes that count as 0.
    pub(super) remap: Vec<u8>,
    /// What pm3 gets, and the child, when its parent dies.
    pub(super) pdeathsig: Option<Sig>,
    /// Tell what the main process left behind.
    pub(super) warn: bool,
    /// How long leftovers have after SIGTERM.
    pub(super) grace: Millis,
    /// The child finds the mask and the ignored signals that pm3 was executed with.
    pub(super) inherit_signals: bool,
    /// The program and its arguments; never empty.
    pub(super) command: Vec<OsString>,
}

/// The default grace for leftovers. Docker, podman and Cloud Run kill after 10 s: half of that leaves the main process
/// as long for its own end, and time for a kill that pm3 can still tell of.
const GRACE: Millis = Millis(5_000);

/// A command line that asks for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `--help`.
    Help(String),
    /// What is wrong, on what, in one line.
    Mistake(String),
}

#[derive(Clone, Copy)]
enum Flag {
    Group,
    Rewrite,
    Remap,
    Pdeathsig,
    Warn,
    KillTimeout,
    InheritSignals,
    Help,
}

struct Row {
    flag: Flag,
    short: Option<char>,
    long: &'static str,
    /// What its value is called; None: it takes none.
    value: Option<&'static str>,
    help: &'static str,
}

const ROWS: [Row; 8] = [
    Row {
        flag: Flag::Group,
        short: Some('g'),
        long: "group",
        value: None,
        help: "send signals to the child's whole process group, not to the child alone",
    },
    Row {
        flag: Flag::Rewrite,
        short: Some('r'),
        long: "rewrite",
        value: Some("FROM:TO"),
        help: "send TO where FROM arrives; 0 drops it; may be repeated",
    },
    Row {
        flag: Flag::Remap,
        short: Some('e'),
        long: "remap",
        value: Some("CODE"),
        help: "exit with 0 where the child exits with CODE; may be repeated",
    },
    Row {
        flag: Flag::Pdeathsig,
        short: Some('p'),
        long: "pdeathsig",
        value: Some("SIG"),
        help: "the signal to get, and to give the child, when the parent dies",
    },
    Row { flag: Flag::Warn, short: Some('w'), long: "warn", value: None, help: "tell what the child left behind" },
    Row {
        flag: Flag::KillTimeout,
        short: None,
        long: "kill-timeout",
        value: Some("TIME"),
        help: "how long what the child left behind has between SIGTERM and SIGKILL (5s)",
    },
    Row {
        flag: Flag::InheritSignals,
        short: None,
        long: "inherit-signals",
        value: None,
        help: "leave the child the blocked and ignored signals that pm3 was given",
    },
    Row { flag: Flag::Help, short: Some('h'), long: "help", value: None, help: "print this" },
];

/// Parses what follows `pm3 run`.
///
/// # Errors
/// See [`Refusal`].
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Flags, Refusal> {
    let mut flags = Flags {
        group: false,
        rewrite: Vec::new(),
        remap: Vec::new(),
        pdeathsig: None,
        warn: false,
        grace: GRACE,
        inherit_signals: false,
        command: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if !word.as_bytes().starts_with(b"-") || word.len() == 1 {
            flags.command.push(word);
            break;
        }
        let text = word.to_string_lossy();
        match text.strip_prefix("--") {
            Some("") => break,
            Some(long) => flags.take_long(long, &mut words)?,
            None => flags.take_short(&text, &mut words)?,
        }
    }
    flags.command.extend(words);
    if flags.command.is_empty() {
        return Err(Refusal::Mistake("no command given: pm3 run [flags] -- CMD [ARG …]".to_owned()));
    }
    Ok(flags)
}

impl Flags {
    /// `long` or `long=value`, the value else being the next word.
    fn take_long(&mut self, text: &str, words: &mut impl Iterator<Item = OsString>) -> Result<(), Refusal> {
        let (name, attached) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let row = ROWS.iter().find(|row| row.long == name).ok_or_else(|| unknown(&format!("--{name}")))?;
        match (row.value, attached) {
            (None, Some(_)) => Err(Refusal::Mistake(format!("--{name} takes no value"))),
            (None, None) => self.set(row, ""),
            (Some(_), Some(value)) => self.set(row, value),
            (Some(_), None) => self.set(row, &next(row, words)?),
        }
    }

    /// `-gw`, `-r TERM:INT`, `-rTERM:INT`.
    fn take_short(&mut self, text: &str, words: &mut impl Iterator<Item = OsString>) -> Result<(), Refusal> {
        let mut letters = text.chars();
        letters.next();
        while let Some(letter) = letters.next() {
            let row =
                ROWS.iter().find(|row| row.short == Some(letter)).ok_or_else(|| unknown(&format!("-{letter}")))?;
            if row.value.is_none() {
                self.set(row, "")?;
                continue;
            }
            return match letters.as_str() {
                "" => self.set(row, &next(row, words)?),
                attached => self.set(row, attached),
            };
        }
        Ok(())
    }

    fn set(&mut self, row: &Row, value: &str) -> Result<(), Refusal> {
        let wrong = |why: String| Refusal::Mistake(format!("--{} {value}: {why}", row.long));
        match row.flag {
            Flag::Group => self.group = true,
            Flag::Rewrite => self.rewrite.push(rewrite(value).map_err(wrong)?),
            Flag::Remap => self.remap.push(value.parse().map_err(|_| wrong("expected an exit code, 0 to 255".into()))?),
            Flag::Pdeathsig => self.pdeathsig = Some(signal(value).map_err(wrong)?),
            Flag::Warn => self.warn = true,
            Flag::KillTimeout => {
                let expected = || wrong("expected a time, such as 500ms, 5s or 1m".to_owned());
                self.grace = config::millis(value).ok_or_else(expected)?;
            }
            Flag::InheritSignals => self.inherit_signals = true,
            Flag::Help => return Err(Refusal::Help(help())),
        }
        Ok(())
    }

    /// What is forwarded for a signal.
    pub(super) fn rewritten(&self, sig: Sig) -> Option<Sig> {
        self.rewrite.iter().rfind(|(from, _)| *from == sig).map_or(Some(sig), |(_, to)| *to)
    }
}

fn next(row: &Row, words: &mut impl Iterator<Item = OsString>) -> Result<String, Refusal> {
    let missing = || Refusal::Mistake(format!("--{} needs a value: {}", row.long, row.value.unwrap_or_default()));
    words.next().map(|word| word.to_string_lossy().into_owned()).ok_or_else(missing)
}

fn unknown(flag: &str) -> Refusal {
    Refusal::Mistake(format!("unknown flag {flag}: see pm3 run --help, or put -- before the command"))
}

fn signal(text: &str) -> Result<Sig, String> {
    Sig::parse(text)
        .ok_or_else(|| format!("{text} is no signal, expected a name or a number, such as TERM, RTMIN+1 or 15"))
}

fn rewrite(text: &str) -> Result<(Sig, Option<Sig>), String> {
    let (from, to) = text.split_once(':').ok_or("expected FROM:TO, such as TERM:QUIT, or HUP:0 to drop it")?;
    let from = signal(from)?;
    if [Sig::KILL, Sig::STOP, Sig::CHLD].contains(&from) {
        return Err(format!("{from} is never forwarded"));
    }
    Ok((from, if to == "0" { None } else { Some(signal(to)?) }))
}

fn help() -> String {
    let mut text = "\
Runs a command as its child: forwards signals, reaps orphans, ends what the command leaves behind, and exits as it did.

usage: pm3 run [flags] [--] CMD [ARG …]

"
    .to_owned();
    for Row { short, long, value, help, .. } in &ROWS {
        let short = short.map_or("   ".to_owned(), |letter| format!("-{letter},"));
        let usage = format!("{short} --{long} {}", value.unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {usage:<24} {help}");
    }
    text + "
Signals are names or numbers: TERM, SIGTERM, RTMIN+3, 15.

Exits with the command's code; with 128 + n where signal n ended it; 127 where it is not there; 126 where it cannot be
run; 64 on a mistake in the flags.

Examples:
  pm3 run -- node server.js
  pm3 run --rewrite TERM:QUIT --remap 143 -- python3 app.py
"
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Flags, Refusal> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    fn mistake(line: &str) -> String {
        match of(line) {
            Err(Refusal::Mistake(text)) => text,
            other => format!("no mistake: {other:?}"),
        }
    }

    #[test]
    fn help_has_examples_that_are_understood() {
        let help = help();
        let examples = help.lines().filter_map(|line| line.strip_prefix("  pm3 run "));
        let commands: Vec<_> = examples.map(|line| of(line).expect(line).command).collect();
        assert_eq!(commands, [["node", "server.js"], ["python3", "app.py"]]);
    }

    #[test]
    fn flags_end_where_the_command_starts() {
        for line in ["sh -c -g", "-- sh -c -g", "--warn sh -c -g", "-w -- sh -c -g"] {
            let flags = of(line).expect(line);
            assert_eq!(flags.command, ["sh", "-c", "-g"], "{line}");
            assert!(!flags.group);
            assert_eq!(flags.warn, line.contains("-w"));
        }
        assert_eq!(of("-- -x").expect("a command").command, ["-x"]);
        assert_eq!(of("-g -- -- x").expect("a command").command, ["--", "x"]);
        assert_eq!(of("-").expect("a command").command, ["-"]);
    }

    #[test]
    fn every_form_of_a_flag_is_read() {
        let flags = of("-gw -r TERM:QUIT -rHUP:0 --rewrite=USR1:RTMIN+1 --rewrite 28:12 -e 143 --remap=3 -pKILL \
                        --kill-timeout 1.5s --inherit-signals x")
        .expect("flags");
        assert!(flags.group && flags.warn && flags.inherit_signals);
        assert_eq!(flags.remap, [143, 3]);
        assert_eq!(flags.pdeathsig, Some(Sig::KILL));
        assert_eq!(flags.grace, Millis(1_500));
        let rules = [
            (Sig::TERM, Some(Sig::QUIT)),
            (Sig::HUP, None),
            (Sig::USR1, Some(Sig(35))),
            (Sig(28), Some(Sig::USR2)),
            (Sig::INT, Some(Sig::INT)),
        ];
        for (from, to) in rules {
            assert_eq!(flags.rewritten(from), to, "{from}");
        }
    }

    #[test]
    fn the_last_rule_for_a_signal_counts() {
        assert_eq!(of("-r TERM:QUIT -r TERM:INT x").expect("flags").rewritten(Sig::TERM), Some(Sig::INT));
    }

    #[test]
    fn a_mistake_names_the_flag() {
        for (line, text) in [
            ("", "no command given: pm3 run [flags] -- CMD [ARG …]"),
            ("-g --", "no command given: pm3 run [flags] -- CMD [ARG …]"),
            ("-gx cmd", "unknown flag -x: see pm3 run --help, or put -- before the command"),
            ("--groups cmd", "unknown flag --groups: see pm3 run --help, or put -- before the command"),
            ("--group=1 cmd", "--group takes no value"),
            ("-r", "--rewrite needs a value: FROM:TO"),
            ("--rewrite TERM x", "--rewrite TERM: expected FROM:TO, such as TERM:QUIT, or HUP:0 to drop it"),
            ("-rKILL:TERM x", "--rewrite KILL:TERM: SIGKILL is never forwarded"),
            ("-rCHLD:TERM x", "--rewrite CHLD:TERM: SIGCHLD is never forwarded"),
            (
                "-rTERM:FOO x",
                "--rewrite TERM:FOO: FOO is no signal, expected a name or a number, such as TERM, RTMIN+1 or 15",
            ),
            ("-e 256 x", "--remap 256: expected an exit code, 0 to 255"),
            ("-p 0 x", "--pdeathsig 0: 0 is no signal, expected a name or a number, such as TERM, RTMIN+1 or 15"),
            ("--kill-timeout soon x", "--kill-timeout soon: expected a time, such as 500ms, 5s or 1m"),
        ] {
            assert_eq!(mistake(line), text, "{line}");
        }
    }

    #[test]
    fn help_tells_every_flag() {
        let Err(Refusal::Help(text)) = of("-w --help") else { panic!("no help") };
        for row in ROWS {
            assert!(text.contains(&format!("--{}", row.long)), "{text}");
        }
    }
}
