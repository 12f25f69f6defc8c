//! `pm3 why`: the history of some apps alone: how their last runs ended, what came of it, and what comes next.

use serde::Serialize;

use super::show::{describe, output};
use crate::cli::Report;
use crate::cli::ask::Context;
use crate::cli::view::{json, why};
use crate::control::logs::Line;
use crate::control::{Detail, Past};
use crate::sys;

/// Tell why apps ended or did not start, and what comes next
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 why web\n  pm3 why web --json")]
pub(in crate::cli) struct Args {
    /// Names, namespaces or ids of apps, or /REGEX/; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// Print a JSON array instead of sentences
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &args.targets, false)?;
        let now = sys::clock::unix_ms();
        let all = answer.instances().map(|(app, one)| (app, one, output(client, app, one)));
        let out = if args.json {
            json::pretty(&all.map(|(_, one, lines)| History::of(one, lines)).collect::<Vec<_>>())
        } else {
            let pages = all.map(|(app, one, lines)| why::page(app, one, lines.as_deref(), now, context.style));
            pages.collect::<Vec<_>>().join("\n")
        };
        Ok(answer.report(out))
    })
}

/// What `--json` tells of an instance.
#[derive(Serialize)]
struct History<'a> {
    id: u32,
    name: &'a str,
    status: &'a str,
    reason: &'a str,
    restarts: u32,
    /// Short runs in a row.
    short_runs: u32,
    /// How its last run ended: n, or 128 + n for a signal.
    exit_code: Option<u8>,
    /// From now.
    next_start_ms: Option<u64>,
    /// The newest last.
    runs: &'a [Past],
    /// The last lines of output, the newest last; null where nobody collects them.
    output: Option<Vec<Line>>,
}

impl History<'_> {
    fn of(one: &Detail, output: Option<Vec<Line>>) -> History<'_> {
        let row = &one.row;
        History {
            id: row.id,
            name: &row.name,
            status: &row.status,
            reason: &row.reason,
            restarts: row.restarts,
            short_runs: one.short_runs,
            exit_code: one.exit_code,
            next_start_ms: one.next_start_ms,
            runs: &one.runs,
            output,
        }
    }
}
