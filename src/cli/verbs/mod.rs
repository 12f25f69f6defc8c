//! All verbs: one file each, named after the verb; verbs that are one idea (`stop`, `restart`, …) share one. A file holds
//! the verb's words (`Args`, with its help, its aliases and an example) and what it does (`run`). This page is the list: a
//! new verb is a file, a line in [`Verb`], and a line in [`perform`].

mod check;
mod completion;
mod env;
mod jlist;
mod list;
mod operate;
mod pid;
mod ping;
mod report;
mod show;
mod startup;
mod watch;
mod why;

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
    Show(show::Args),
    Why(why::Args),
    Env(env::Args),
    Pid(pid::Pid),
    Id(pid::Id),
    Jlist(jlist::Jlist),
    Prettylist(jlist::Prettylist),
    Ping(ping::Args),
    Check(check::Args),
    Watch(watch::Args),
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
        Verb::Show(args) => show::run(&args, context),
        Verb::Why(args) => why::run(&args, context),
        Verb::Env(args) => env::run(&args, context),
        Verb::Pid(args) => pid::pids(&args, context),
        Verb::Id(args) => pid::ids(&args, context),
        Verb::Jlist(jlist::Jlist { secrets }) => jlist::run(secrets, jlist::Form::Line, context),
        Verb::Prettylist(jlist::Prettylist { secrets }) => jlist::run(secrets, jlist::Form::Pretty, context),
        Verb::Ping(args) => ping::run(&args, context),
        Verb::Check(args) => check::run(args),
        Verb::Watch(args) => watch::run(&args, context),
        Verb::Startup(args) => startup::startup(&args),
        Verb::Unstartup(args) => startup::unstartup(&args),
        Verb::Report(args) => report::run(&args, context),
        Verb::Completion(args) => completion::completion(&args),
        Verb::Man(args) => completion::man(&args),
    }
}
