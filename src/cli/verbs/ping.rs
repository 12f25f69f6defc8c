//! `pm3 ping`: whether a supervisor is there, and where. It starts none.

use crate::cli::Report;
use crate::cli::ask::Context;

/// Ask whether a supervisor is there
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 ping")]
pub(in crate::cli) struct Args {}

pub(super) fn run(Args {}: &Args, context: &Context) -> Report {
    context.ask(|client| {
        // Connecting has asked already.
        Ok(Report::done(format!("pong from pm3 {}, pid {}, at {}\n", client.release, client.pid, client.address)))
    })
}
