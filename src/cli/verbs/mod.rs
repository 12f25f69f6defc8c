//! All verbs: one file each, named after the verb; verbs that are one idea (`stop`, `restart`, …) share one. A file holds
//! the verb's words (`Args`, with its help and an example) and what it does (`run`). This page is the list, with all names:
//! a new verb is a file, a line in [`Verb`], and a line in [`perform`].

mod check;
mod completion;
mod ecosystem;
mod env;
mod flush;
mod health;
mod jlist;
mod kill;
mod later;
pub(super) mod list;
mod logs;
mod operate;
mod pid;
mod ping;
mod report;
mod resurrect;
mod save;
mod scale;
mod send;
mod show;
mod signal;
mod start;
mod startup;
mod watch;
mod why;

use clap::Subcommand;

use crate::cli::ask::Context;
use crate::cli::options::Options;
use crate::cli::{InitArgs, Report};

/// Those that ask no supervisor: `--socket` is not in their help.
pub(super) const ASK_NOBODY: [&str; 7] =
    ["check", "cleardump", "completion", "ecosystem", "man", "startup", "unstartup"];

/// The verbs that this process performs itself, in the order of the help.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
#[command(defer = true)]
pub(super) enum Verb {
    Start(start::Args),
    Stop(operate::Stop),
    Restart(operate::Restart),
    Reload(operate::Reload),
    #[command(visible_alias = "del")]
    Delete(operate::Delete),
    Scale(scale::Args),
    #[command(visible_aliases = ["ls", "l", "ps", "status"])]
    List(list::Args),
    #[command(visible_aliases = ["describe", "desc", "info"])]
    Show(show::Args),
    Why(why::Args),
    Health(health::Args),
    Env(env::Args),
    Pid(pid::Pid),
    Id(pid::Id),
    Jlist(jlist::Jlist),
    Prettylist(jlist::Prettylist),
    Reset(operate::Reset),
    #[command(name = "sendSignal", visible_alias = "signal", alias = "send-signal")]
    SendSignal(signal::Args),
    Send(send::Send),
    Attach(send::Attach),
    #[command(name = "startOrRestart", alias = "start-or-restart")]
    StartOrRestart(start::OrRestart),
    #[command(name = "startOrReload", visible_alias = "startOrGracefulReload", alias = "start-or-reload")]
    StartOrReload(start::OrReload),
    Kill(kill::Args),
    #[command(visible_alias = "log")]
    Logs(logs::Args),
    Flush(flush::Flush),
    #[command(visible_alias = "reloadLogs")]
    ReloadLogs(flush::ReloadLogs),
    Ping(ping::Args),
    #[command(visible_aliases = ["dash", "dashboard"])]
    Monit(later::Monit),
    #[command(visible_alias = "plus")]
    Web(later::Web),
    #[command(visible_alias = "updatePM2")]
    Update(later::Update),
    Check(check::Args),
    Watch(watch::Args),
    #[command(visible_alias = "sample")]
    Ecosystem(ecosystem::Args),
    #[command(visible_alias = "dump")]
    Save(save::Save),
    Resurrect(resurrect::Args),
    Cleardump(save::Cleardump),
    Startup(startup::Startup),
    Unstartup(startup::Unstartup),
    Report(report::Args),
    #[command(visible_alias = "completions")]
    Completion(completion::Completion),
    Man(completion::Man),
}

impl Verb {
    /// The options that describe an app, of a verb that has them.
    pub(super) fn options_mut(&mut self) -> Option<&mut Options> {
        if let Verb::Start(args)
        | Verb::StartOrRestart(start::OrRestart { args })
        | Verb::StartOrReload(start::OrReload { args }) = self
        {
            return Some(args.options_mut());
        }
        let (Verb::Restart(operate::Restart { again }) | Verb::Reload(operate::Reload { again, .. })) = self else {
            return None;
        };
        Some(again.options_mut())
    }

    /// Whether what it prints is nothing but what a program reads: then `--silent` leaves it, as in PM2.
    pub(super) fn is_for_programs(&self) -> bool {
        if let Verb::List(args) = self {
            return args.is_json();
        }
        matches!(self, Verb::Jlist(_) | Verb::Prettylist(_) | Verb::Completion(_) | Verb::Man(_))
    }
}

/// What came of a verb.
pub(super) enum Performed {
    Said(Report),
    /// This process is to become init.
    Init(InitArgs),
}

/// Does what the verb says.
pub(super) fn perform(verb: Verb, context: &Context) -> Performed {
    Performed::Said(match verb {
        Verb::Start(args) => return start::start(&args, context),
        Verb::StartOrRestart(args) => return start::or_restart(&args, context),
        Verb::StartOrReload(args) => return start::or_reload(&args, context),
        Verb::Stop(args) => operate::stop(&args, context),
        Verb::Restart(args) => operate::restart(&args, context),
        Verb::Reload(args) => operate::reload(&args, context),
        Verb::Delete(args) => operate::delete(&args, context),
        Verb::Reset(args) => operate::reset(&args, context),
        Verb::Scale(args) => scale::run(&args, context),
        Verb::SendSignal(args) => signal::run(&args, context),
        Verb::Send(args) => send::send(&args, context),
        Verb::Attach(args) => send::attach(&args, context),
        Verb::Kill(args) => kill::run(&args, context),
        Verb::Monit(args) => later::monit(&args),
        Verb::Web(args) => later::web(&args),
        Verb::Update(args) => later::update(&args),
        Verb::List(args) => list::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Why(args) => why::run(&args, context),
        Verb::Health(args) => health::run(&args, context),
        Verb::Env(args) => env::run(&args, context),
        Verb::Pid(args) => pid::pids(&args, context),
        Verb::Id(args) => pid::ids(&args, context),
        Verb::Jlist(jlist::Jlist { secrets }) => jlist::run(secrets, jlist::Form::Line, context),
        Verb::Prettylist(jlist::Prettylist { secrets }) => jlist::run(secrets, jlist::Form::Pretty, context),
        Verb::Logs(args) => logs::run(&args, context),
        Verb::Flush(args) => flush::flush(&args, context),
        Verb::ReloadLogs(args) => flush::reload_logs(&args, context),
        Verb::Ping(args) => ping::run(&args, context),
        Verb::Check(args) => check::run(args, context.style),
        Verb::Watch(args) => watch::run(&args, context),
        Verb::Ecosystem(args) => ecosystem::run(&args),
        Verb::Save(args) => save::save(&args, context),
        Verb::Resurrect(args) => return resurrect::run(&args, context),
        Verb::Cleardump(args) => save::cleardump(&args, context),
        Verb::Startup(args) => startup::startup(&args),
        Verb::Unstartup(args) => startup::unstartup(&args),
        Verb::Report(args) => report::run(&args, context),
        Verb::Completion(args) => completion::completion(&args),
        Verb::Man(args) => completion::man(&args),
    })
}
