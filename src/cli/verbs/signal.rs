//! `pm3 sendSignal`: a signal to the main processes of apps, which stays the apps' own affair: pm3 sends what it is told and
//! takes nothing back if one of them ends by it.

use crate::cli::ask::Context;
use crate::cli::targets;
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, Report};
use crate::supervisor::event::Sig;

/// Send a signal to the main processes of apps
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 sendSignal SIGUSR2 web\n  pm3 signal HUP all")]
pub(in crate::cli) struct Args {
    /// A name, with or without SIG, or a number
    #[arg(value_name = "SIGNAL", value_parser = signal)]
    signal: Sig,

    /// Names, namespaces or ids of apps, all, or /REGEX/
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,

    #[command(flatten)]
    show: Show,
}

fn signal(text: &str) -> Result<Sig, String> {
    Sig::parse(text).ok_or_else(|| "expected a signal, as TERM, SIGUSR1 or 15".to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let mut telling = Telling::new(client.list()?, &args.show);
        let mut failed = Vec::new();
        let words = args.targets.iter().map(String::as_str);
        let targets = targets::for_supervisor(words, telling.rows(), &mut failed);
        failed.iter().for_each(|why| telling.fail(Exit::Failed, why));
        if !targets.is_empty() {
            telling.ask(client, |client| client.signal(args.signal, targets));
        }
        Ok(telling.report())
    })
}
