//! `pm3 watch`: switches the watching of files on and off, as PM2's `restart --watch` does, without a restart.

use crate::cli::ask::{Context, ERROR, TAG};
use crate::cli::{Exit, Report};
use crate::supervisor::event::Verb;

/// Restart apps when their files change, or do not any more: each call switches
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 watch web")]
pub(in crate::cli) struct Args {
    /// Names, namespaces or ids of apps, or all
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let targets = args.targets.iter().map(|target| target.as_str().into()).collect();
        let outcome = client.operate(Verb::Watch, targets, None)?;
        let out = outcome.said.iter().map(|line| format!("{TAG} {line}\n")).collect();
        let err: String = outcome.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
        let exit = if outcome.failed.is_empty() { Exit::Done } else { Exit::Failed };
        Ok(Report { out, err, exit })
    })
}
