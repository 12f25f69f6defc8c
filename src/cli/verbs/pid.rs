//! `pm3 pid` and `pm3 id`: numbers alone, for scripts.

use super::show::describe;
use crate::cli::Report;
use crate::cli::ask::Context;

/// Print the pids of apps, one a line
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 pid web\n  kill -USR2 $(pm3 pid web)")]
pub(in crate::cli) struct Pid {
    /// Names, namespaces or ids of apps, or /REGEX/; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Print the ids of apps, as [ 0, 1 ]
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 id web")]
pub(in crate::cli) struct Id {
    /// Names or namespaces of apps, all, or /REGEX/
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

pub(super) fn pids(args: &Pid, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &args.targets, false)?;
        let pids = answer.instances().map(|(_, one)| one.row.pid);
        // PM2 prints 0 for what does not run; `kill $(pm2 pid)` is then the end of the whole process group.
        let out = pids.filter(|pid| *pid > 0).map(|pid| format!("{pid}\n")).collect();
        Ok(answer.report(out))
    })
}

pub(super) fn ids(args: &Id, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &args.targets, false)?;
        let ids: Vec<String> = answer.instances().map(|(_, one)| one.row.id.to_string()).collect();
        let out = if ids.is_empty() { "[]\n".to_owned() } else { format!("[ {} ]\n", ids.join(", ")) };
        Ok(answer.report(out))
    })
}
