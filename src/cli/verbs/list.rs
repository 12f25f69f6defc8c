//! `pm3 list`: all instances, as a table, in short, or as JSON.

use crate::cli::Report;
use crate::cli::ask::Context;
use crate::cli::view::sort::Sort;
use crate::cli::view::{json, list};

/// List all instances
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    visible_aliases = ["ls", "l", "ps", "status"],
    after_help = "Examples:\n  pm3 list\n  pm3 ls --sort memory:desc\n  pm3 ls --json"
)]
pub(in crate::cli) struct Args {
    /// In this order: a field, and asc or desc after a colon. Fields: name (the default), namespace, pid, id, cpu, memory,
    /// uptime, status, restarts
    #[arg(long, value_name = "FIELD[:ORDER]", value_parser = Sort::parse)]
    sort: Option<Sort>,

    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,

    /// Print a block of lines for each instance instead of a table
    #[arg(short, long, conflicts_with = "json")]
    mini_list: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let rows = client.list()?;
        // Programs get the order that stays the same.
        let sort = args.sort.unwrap_or(if args.json { Sort::BY_ID } else { Sort::default() });
        let rows = sort.of(&rows);
        Ok(Report::done(if args.json {
            json::pretty(&rows)
        } else if args.mini_list {
            list::mini(&rows, context.style)
        } else {
            list::table(&rows, context.style)
        }))
    })
}
