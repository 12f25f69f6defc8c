//! `pm3 watch`: switches the watching of files on and off, as PM2's `restart --watch` does, without a restart.

use super::operate::{self, Targets};
use crate::cli::Report;
use crate::cli::ask::Context;
use crate::supervisor::event::Verb;

/// Restart apps when their files change, or do not any more: each call switches
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 watch web")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: Targets,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    operate::operate(Verb::Watch, &args.of, context)
}
