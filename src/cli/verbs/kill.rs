//! `pm3 kill`: ends all apps, then the supervisor. Without one there is nothing to do, and that is no failure, as in PM2.

use crate::cli::ask::{Context, exit_of};
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, Report};
use crate::control::client::{Error, PATIENCE};
use crate::sys::ending::Ending;

/// End all apps and pm3 itself
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 kill")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    show: Show,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    let mut telling = Telling::new(Vec::new(), &args.show);
    let mut client = match context.connect() {
        Ok(client) => client,
        Err(Error::Nobody(_)) => {
            telling.say("No PM3 daemon is running here");
            return telling.report();
        }
        Err(error) => return Report::failed(exit_of(&error), error),
    };
    // Its end is watched from before it is asked to end: a pid may be somebody else's later.
    let ending = Ending::of(client.peer.pid);
    telling.say("Stopping all apps, then PM3 itself");
    match client.quit() {
        Ok(outcome) => outcome.failed.iter().for_each(|why| telling.fail(Exit::Failed, why)),
        Err(error) => telling.fail(exit_of(&error), error),
    }
    if telling.has_failed() {
        return telling.report();
    }
    // It has nothing left to do but to exit. Where its end cannot be seen, its answer has to do.
    if ending.is_ok_and(|ending| !ending.wait(PATIENCE)) {
        telling.fail(Exit::Failed, format_args!("pm3 has ended all apps and is still there, pid {}", client.peer.pid));
    } else {
        telling.say("PM3 Daemon Stopped");
    }
    telling.report()
}
