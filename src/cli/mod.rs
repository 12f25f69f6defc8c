//! The command line: words in, one [`Report`] out. A verb asks the supervisor over the control socket and says what
//! came of it; it never touches a process itself. `pm3 run` is not here: it must not pay for forty verbs.
//!
//! [`verbs`] holds one file for each verb; `args` knows the words that stand before a verb, `ask` what verbs share.

mod args;
mod ask;
mod background;
mod boot;
mod dropped;
mod foreground;
mod live;
mod options;
mod package;
mod plan;
mod targets;
mod telling;
mod underway;
mod verbs;
mod view;
mod whole;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

pub use args::InitArgs;
use args::{Common, Parsed};
use ask::{Context, ERROR};
use verbs::Performed;

use crate::sys;

/// How pm3's verbs end: what a script can rely on. Numbers above 63 are those of sysexits.h. `init` and `run` end with
/// the code of the app that decides instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// Some target was not found, or did not do as asked; the others were tried all the same.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// No supervisor answers, or none can be started: nor a second one where one is.
    NoSupervisor = 69,
    /// The output could not be written.
    OutputLost = 74,
    /// What answers does not speak this protocol, or no version of it that is known here.
    Protocol = 76,
    /// This user may not do that.
    NotAllowed = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// What a verb has to say, and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    out: String,
    err: String,
    exit: Exit,
}

impl Report {
    fn done(out: impl Into<String>) -> Report {
        Report { out: out.into(), err: String::new(), exit: Exit::Done }
    }

    fn failed(exit: Exit, why: impl std::fmt::Display) -> Report {
        Report { out: String::new(), err: format!("{}{why}\n", ERROR), exit }
    }
}

/// What is to be done with a command line.
#[derive(Debug)]
pub enum Next {
    /// It has been done; this is the exit code.
    Exit(u8),
    /// This process is to become init.
    Init(InitArgs),
}

/// Whether a command line, the program's name first, may make this process init. It blocks signals then, before it does
/// anything else; a verb that does not become init after all lets them through again.
pub fn may_become_init(words: &[OsString]) -> bool {
    let words = words.get(1..).unwrap_or_default();
    match words.first().and_then(|verb| verb.to_str()) {
        None => words.is_empty(),
        Some("init") => true,
        Some("resurrect") => foreground::is_needed() || words.iter().any(|word| word == "--no-daemon"),
        Some(verb) if verb.starts_with("start") && verb != "startup" => {
            foreground::is_needed() || foreground::is_wiser() || words.iter().any(|word| word == "--no-daemon")
        }
        Some(_) => false,
    }
}

/// Does what the words after the program's name say. `run` is not among them.
pub fn main(words: Vec<OsString>) -> Next {
    sys::signals::ignore_broken_pipes();
    let report = match args::parse(words) {
        Parsed::Init(init) => return Next::Init(init),
        // Elsewhere it would be somebody else's home, and `pm3 kill` would end their apps.
        Parsed::Verb(..) if home_is_relative() => Report::failed(
            Exit::Usage,
            "$PM3_HOME is a relative path, which means another place in each directory; set it to an absolute one",
        ),
        Parsed::Verb(verb, Common { socket, silent }) => {
            // What is meant for programs is what they asked for.
            let silent = silent && !verb.is_for_programs();
            match verbs::perform(verb, &Context { socket, style: style() }) {
                Performed::Said(report) if silent => Report { out: String::new(), ..report },
                Performed::Said(report) => report,
                Performed::Init(init) => return Next::Init(init),
            }
        }
        Parsed::Said(report) => report,
    };
    Next::Exit(tell(&report) as u8)
}

fn home_is_relative() -> bool {
    std::env::var_os("PM3_HOME").is_some_and(|home| !home.is_empty() && Path::new(&home).is_relative())
}

fn style() -> view::Style {
    let terminal = io::stdout().is_terminal();
    let is_set = |name| std::env::var_os(name).is_some_and(|set| !set.is_empty());
    // A terminal that calls itself dumb shows colours as garbage.
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    // What follows `--` is an app's.
    let plain = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--no-color");
    view::Style {
        width: if terminal { sys::tty::size(io::stdout()).map(|(columns, _)| columns.into()) } else { None },
        color: terminal && !dumb && !plain && !is_set("NO_COLOR"),
    }
}

/// Writes a report. The one place that does: a reader who has seen enough (`| head`) is no error, a full disk is.
fn tell(report: &Report) -> Exit {
    let _ = io::stderr().write_all(report.err.as_bytes());
    let mut stdout = io::stdout();
    match stdout.write_all(report.out.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let why = sys::why(sys::errno::of(&error));
            let _ = writeln!(io::stderr(), "{}stdout: {why}", ERROR);
            Exit::OutputLost
        }
        Ok(()) | Err(_) => report.exit,
    }
}
