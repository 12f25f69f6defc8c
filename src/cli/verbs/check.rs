//! `pm3 check`: the plan that a file is, or every mistake in it. It asks no supervisor.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use crate::cli::ask::{WARN, facts, node};
use crate::cli::{Exit, Report};
use crate::config::{self, Loaded, Wanted};

/// Check a file and print what would run; every mistake at once
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 check ecosystem.config.js\n  pm3 check --keys")]
pub(in crate::cli) struct Args {
    /// The file; default: as for init
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The same, as an option
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,

    /// Apply the apps' env_PROFILE tables over env
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    env: Option<String>,

    /// Print every key that a file may have
    #[arg(long)]
    keys: bool,
}

pub(super) fn run(args: Args) -> Report {
    if args.keys {
        return Report::done(config::keys());
    }
    let facts = facts();
    let file = match config::find(args.file.or(args.config).as_deref(), &facts) {
        Ok(file) => file,
        Err(why) => return Report::failed(Exit::Config, why),
    };
    let wanted = Wanted { profile: args.env.as_deref(), ..Wanted::default() };
    match config::load(&file, &wanted, &facts, &node) {
        Ok(Loaded { spec, warnings }) => {
            let err = warnings.iter().map(|warning| format!("{WARN}{warning}\n")).collect();
            Report { err, ..Report::done(config::plan_text(&spec)) }
        }
        Err(mistakes) => {
            let err = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            Report { out: String::new(), err, exit: Exit::Config }
        }
    }
}
