//! `pm3 flush` and `pm3 reload-logs`: what can be done with the files that output goes to. The logger does it; here it is
//! asked for and told.

use crate::cli::ask::{Context, ERROR, TAG};
use crate::cli::{Exit, Report, targets};
use crate::supervisor::event::Outcome;

/// Empty the log files of apps, and forget their recent output
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 flush\n  pm3 flush web")]
pub(in crate::cli) struct Flush {
    /// Names, namespaces or ids of apps, or /REGEX/; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Open all log files again, after a tool as logrotate has moved them away
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 reload-logs")]
pub(in crate::cli) struct ReloadLogs {}

pub(super) fn flush(args: &Flush, context: &Context) -> Report {
    context.ask(|client| {
        let rows = if args.targets.iter().any(|word| targets::is_regex(word)) { client.list()? } else { Vec::new() };
        let mut failed = Vec::new();
        let targets = targets::for_supervisor(args.targets.iter().map(String::as_str), &rows, &mut failed);
        match failed.first() {
            Some(why) => Ok(Report::failed(Exit::Failed, why)),
            None => Ok(told(&client.flush(targets)?, "flushed")),
        }
    })
}

pub(super) fn reload_logs(ReloadLogs {}: &ReloadLogs, context: &Context) -> Report {
    context.ask(|client| Ok(told(&client.reload_logs()?, "log files opened again")))
}

fn told(outcome: &Outcome, what: &str) -> Report {
    let out = outcome.done.iter().map(|who| format!("{TAG} [{who}] {what}\n")).collect();
    let err = outcome.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
    Report { out, err, exit: if outcome.failed.is_empty() { Exit::Done } else { Exit::Failed } }
}
