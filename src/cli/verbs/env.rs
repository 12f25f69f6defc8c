//! `pm3 env`: the environment that a process was started with, from the process itself: what pm3 has, what the shell had
//! that started the app, and what the app sets. Names and harmless values are shown, the others only with `--secrets`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use serde::Serialize;

use super::show::{Look, describe};
use crate::cli::Report;
use crate::cli::ask::{Context, TAG};
use crate::cli::view::{Paint, Style, json, show, text, why};
use crate::control::{Described, Detail, MASKED, is_harmless};

/// Print the environment of apps; values that may be secret only with --secrets
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 env 0\n  pm3 env web --secrets")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    look: Look,
}

/// An instance's variables.
#[derive(Serialize)]
struct Environment {
    id: u32,
    name: String,
    /// It is the whole environment of a process, not only what the app has of its own.
    whole: bool,
    env: BTreeMap<String, String>,
}

pub(super) fn run(Args { look }: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &look.targets, look.secrets)?;
        let all: Vec<Environment> = answer.instances().map(|(app, one)| environment(app, one, look.secrets)).collect();
        let mut report = answer.report(if look.json { json::pretty(&all) } else { page(&all, context.style) });
        if !look.json {
            report.err += &notes(&all);
        }
        Ok(report)
    })
}

fn environment(app: &Described, one: &Detail, secrets: bool) -> Environment {
    let (id, name) = (one.row.id, why::who(app, one));
    match of_process(&one.row.name, one.row.id, one.row.pid) {
        Some(mut env) => {
            if !secrets {
                env.iter_mut().filter(|(name, _)| !is_harmless(name)).for_each(|(_, value)| *value = MASKED.to_owned());
            }
            Environment { id, name, whole: true, env }
        }
        None => {
            let own = show::variables(&app.spec).into_iter();
            let env = own.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
            Environment { id, name, whole: false, env }
        }
    }
}

/// More than this no kernel gives a program by default (execve(2)).
const ENVIRON_MAX: u64 = 6 << 20;

/// What a process was started with (proc_pid_environ(5)). None: there is none, this user may not look, or it is not the
/// instance's: the supervisor may live in another pid namespace, where the number means another process.
fn of_process(name: &str, id: u32, pid: u32) -> Option<BTreeMap<String, String>> {
    let env = environ(pid)?;
    let is = |variable: &str, value: &str| env.get(variable).is_some_and(|its| its == value);
    (is("name", name) && is("pm_id", &id.to_string())).then_some(env)
}

/// What a process was started with; None: it is gone, or not for us to know.
pub(super) fn environ(pid: u32) -> Option<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRON_MAX).read_to_end(&mut bytes).ok()?;
    let variables = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let text = String::from_utf8_lossy(entry);
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    Some(variables.collect())
}

/// PM2's lines; a heading over each instance, where there are several.
fn page(all: &[Environment], style: Style) -> String {
    let mut out = String::new();
    for one in all {
        if all.len() > 1 {
            style.heading(&mut out, &format!("{} (id {})", one.name, one.id));
        }
        for (name, value) in &one.env {
            let _ = write!(out, "{}: ", text::printable(name));
            style.paint(&mut out, &text::printable(value), Paint::Good);
            out.push('\n');
        }
    }
    out
}

/// What the reader should know of what is missing.
fn notes(all: &[Environment]) -> String {
    let mut notes = String::new();
    for one in all.iter().filter(|one| !one.whole) {
        let _ =
            writeln!(notes, "{TAG} {}: no process to look at, so these are the variables of its own alone", one.name);
    }
    if all.iter().any(|one| one.env.values().any(|value| value == MASKED)) {
        let _ = writeln!(notes, "{TAG} values that may be secret are masked; --secrets shows them");
    }
    notes
}
