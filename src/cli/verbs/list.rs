//! `pm3 list`: all instances, as a table or as JSON.

use crate::cli::ask::Context;
use crate::cli::{Report, table};
use crate::control::Row;

/// List all instances
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(visible_aliases = ["ls", "l", "ps", "status"], after_help = "Examples:\n  pm3 list\n  pm3 ls --json")]
pub(in crate::cli) struct Args {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let rows = client.list()?;
        Ok(Report::done(if args.json { json_of(&rows) } else { table::render(&rows, context.style) }))
    })
}

fn json_of(rows: &[Row]) -> String {
    // Rows are plain data with text for keys: writing them cannot fail.
    let mut text = serde_json::to_string_pretty(rows).unwrap_or_default();
    text.push('\n');
    text
}
