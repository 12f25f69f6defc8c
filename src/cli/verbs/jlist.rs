//! `pm3 jlist` and `pm3 prettylist`: all instances in the JSON of PM2, for tools that read it. PM2 prints every secret there;
//! here the values of variables are masked like everywhere.

use super::show::describe;
use crate::cli::Report;
use crate::cli::ask::Context;
use crate::cli::view::{jlist, json};

/// Print all instances as PM2's JSON, in one line
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 jlist")]
pub(in crate::cli) struct Jlist {
    /// Print the values of variables too
    #[arg(long)]
    pub(super) secrets: bool,
}

/// Print all instances as PM2's JSON, in lines that a person can read
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 prettylist")]
pub(in crate::cli) struct Prettylist {
    /// Print the values of variables too
    #[arg(long)]
    pub(super) secrets: bool,
}

/// How it is printed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Line,
    Pretty,
}

pub(super) fn run(secrets: bool, form: Form, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &[], secrets)?;
        let mut all: Vec<_> = answer.instances().collect();
        all.sort_by_key(|(_, one)| one.row.id);
        let list: Vec<_> = all.into_iter().map(|(app, one)| jlist::entry(app, one)).collect();
        Ok(answer.report(match form {
            Form::Line => json::line(&list),
            Form::Pretty => json::pretty(&list),
        }))
    })
}
