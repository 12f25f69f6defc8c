//! `pm3 list`: all instances, as a table, in short, or as JSON; once, or again and again.

use crate::cli::ask::{Context, exit_of, name_users};
use crate::cli::package::Versions;
use crate::cli::view::sort::Sort;
use crate::cli::view::{Style, json, list};
use crate::cli::{Report, live};
use crate::control::Row;
use crate::control::client::{Client, Error};
use crate::sys::users::Users;

/// List all instances
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 list\n  pm3 ls --sort memory:desc\n  pm3 ls --json")]
pub(in crate::cli) struct Args {
    /// By name, namespace, pid, id, cpu, memory, uptime, status or restarts; :desc turns it round
    #[arg(long, value_name = "FIELD[:ORDER]", value_parser = Sort::parse)]
    sort: Option<Sort>,

    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,

    /// Print a block of lines for each instance instead of a table
    #[arg(short, long, conflicts_with = "json")]
    mini_list: bool,

    /// Draw it again every second, until ^C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

impl Args {
    pub(super) fn is_json(&self) -> bool {
        self.json
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    if !args.watch {
        return context.ask(|client| Ok(Report::done(page(args, client, context.style)?)));
    }
    context.ask(|client| {
        let failed = |error: Error| Report::failed(exit_of(&error), error);
        Ok(live::show(|style| page(args, client, style).map_err(failed)))
    })
}

fn page(args: &Args, client: &mut Client, style: Style) -> Result<String, Error> {
    let rows = rows(client, style)?;
    // Programs get the order that stays the same.
    let sort = args.sort.unwrap_or(if args.json { Sort::BY_ID } else { Sort::default() });
    let rows = sort.of(&rows);
    Ok(if args.json {
        json::pretty(&rows)
    } else if args.mini_list {
        list::mini(&rows, style)
    } else {
        list::table(&rows, style)
    })
}

/// The table as it follows a change, if somebody can still be asked: without apps to run pm3 may have ended since.
pub(in crate::cli) fn after_change(client: &mut Client, style: Style, mini: bool) -> String {
    let shown = |rows: Vec<Row>| {
        let rows = Sort::default().of(&rows);
        if mini { list::mini(&rows, style) } else { list::table(&rows, style) }
    };
    rows(client, style).map(shown).unwrap_or_default()
}

/// All instances, with the names of their users, and with the versions of their programs where these can be seen.
fn rows(client: &mut Client, style: Style) -> Result<Vec<Row>, Error> {
    let mut rows = client.list()?;
    name_users(rows.iter_mut(), Users::read);
    if style.width.is_none_or(|width| width >= list::VERSIONS_FROM) {
        let mut versions = Versions::default();
        for row in &mut rows {
            if let Some(version) = versions.of(&row.script) {
                row.version = version.into();
            }
        }
    }
    Ok(rows)
}
