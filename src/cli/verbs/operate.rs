//! `pm3 start`, `stop`, `restart` of apps that are in the list: asks, says what came of it in PM2's words, and shows the
//! table, as PM2's users expect after every change.

use crate::cli::ask::{Context, ERROR, TAG};
use crate::cli::{Exit, Report};
use crate::supervisor::event::Verb;

/// Start apps that are stopped
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 start web worker")]
pub(in crate::cli) struct Start {
    #[command(flatten)]
    of: Targets,
}

/// Stop apps; they stay in the list
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 stop web\n  pm3 stop all")]
pub(in crate::cli) struct Stop {
    #[command(flatten)]
    of: Targets,
}

/// Stop and start apps
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 restart web\n  pm3 restart 0 1")]
pub(in crate::cli) struct Restart {
    #[command(flatten)]
    of: Targets,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
struct Targets {
    /// Names, namespaces or ids of apps, or all
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

pub(super) fn start(args: &Start, context: &Context) -> Report {
    operate(Verb::Start, &args.of, context)
}

pub(super) fn stop(args: &Stop, context: &Context) -> Report {
    operate(Verb::Stop, &args.of, context)
}

pub(super) fn restart(args: &Restart, context: &Context) -> Report {
    operate(Verb::Restart, &args.of, context)
}

fn operate(verb: Verb, of: &Targets, context: &Context) -> Report {
    context.ask(|client| {
        let outcome = client.operate(verb, of.targets.iter().map(|target| target.as_str().into()).collect(), None)?;
        let done: String = outcome.done.iter().map(|who| format!("{TAG} [{who}] ✓\n")).collect();
        let err: String = outcome.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
        let exit = if outcome.failed.is_empty() { Exit::Done } else { Exit::Failed };
        let table = super::list::after_change(client, context.style);
        Ok(Report { out: done + &table, err, exit })
    })
}
