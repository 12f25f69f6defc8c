//! All verbs: one file each, named after the verb; verbs that are one idea (`stop`, `restart`, …) share one. A file holds
//! the verb's words (`Args`, with its help, its aliases and an example) and what it does (`run`). This page is the list: a
//! new verb is a file, a line in [`Verb`], and a line in [`perform`].

mod check;
mod completion;
mod list;
mod operate;
mod ping;
mod report;
mod startup;

use clap::Subcommand;

use crate::cli::Report;
use crate::cli::ask::Context;

/// The verbs that this process performs itself, in the order of the help.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Verb {
    Start(operate::Start),
    Stop(operate::Stop),
    Restart(operate::Restart),
    List(list::Args),
    Ping(ping::Args),
    Check(check::Args),
    Startup(startup::Startup),
    Unstartup(startup::Unstartup),
    Report(report::Args),
    Completion(completion::Completion),
    Man(completion::Man),
}

/// Does what the verb says.
pub(super) fn perform(verb: Verb, context: &Context) -> Report {
    match verb {
        Verb::Start(args) => operate::start(&args, context),
        Verb::Stop(args) => operate::stop(&args, context),
        Verb::Restart(args) => operate::restart(&args, context),
        Verb::List(args) => list::run(&args, context),
        Verb::Ping(args) => ping::run(&args, context),
        Verb::Check(args) => check::run(args),
        Verb::Startup(args) => startup::startup(&args),
        Verb::Unstartup(args) => startup::unstartup(&args),
        Verb::Report(args) => report::run(&args, context),
        Verb::Completion(args) => completion::completion(&args),
        Verb::Man(args) => completion::man(&args),
    }
}
