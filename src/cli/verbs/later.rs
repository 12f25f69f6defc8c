//! Verbs that exist by name: `monit`, `web` (`plus`) and `update`. Each says plainly that this release does not have it, and
//! what does the same today.

use crate::cli::{Exit, Report};

/// Watch apps in the terminal; not in this release
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 monit")]
pub(in crate::cli) struct Monit {}

/// Watch and steer apps in a browser; not in this release
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 web")]
pub(in crate::cli) struct Web {}

/// Replace the running supervisor by this release, in place; not in this release
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 update")]
pub(in crate::cli) struct Update {}

pub(super) fn monit(Monit {}: &Monit) -> Report {
    missing(&["monit"], "`pm3 list --watch` and `pm3 logs` show the same")
}

pub(super) fn web(Web {}: &Web) -> Report {
    missing(&["web", "plus"], "`pm3 list`, or `pm3 jlist` for programs, shows what there is")
}

pub(super) fn update(Update {}: &Update) -> Report {
    missing(&["update", "updatePM2"], "`pm3 save && pm3 kill && pm3 resurrect` does it, with an interruption")
}

/// The verb is called as it was typed.
fn missing(names: &[&str], instead: &str) -> Report {
    let typed = std::env::args_os().skip(1).find_map(|word| names.iter().find(|name| word == **name).copied());
    let verb = typed.or(names.first().copied()).unwrap_or_default();
    Report::failed(Exit::Failed, format_args!("{verb}: not in this release; {instead}"))
}
