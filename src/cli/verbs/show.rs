//! `pm3 show`: all about some apps, a page for each instance. And what the other verbs share that look at apps: asking for
//! descriptions, and telling of targets that name nothing.

use crate::cli::ask::{Context, ERROR};
use crate::cli::package::{self, Versions};
use crate::cli::view::{json, show};
use crate::cli::{Exit, Report};
use crate::control::client::{Client, Error};
use crate::control::{Described, Detail};
use crate::sys;

/// Show all about apps: settings, sockets, last runs, output
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    visible_aliases = ["describe", "desc", "info"],
    after_help = "Examples:\n  pm3 show web\n  pm3 show 0 --json"
)]
pub(in crate::cli) struct Args {
    /// Names, namespaces or ids of apps, or all
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,

    /// Print a JSON array instead of tables
    #[arg(long)]
    json: bool,

    /// Print the values of variables too
    #[arg(long)]
    secrets: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let mut answer = describe(client, &args.targets, args.secrets)?;
        if args.json {
            return Ok(answer.report(json::pretty(&answer.apps)));
        }
        let now = sys::clock::unix_ms();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut out = String::new();
        for app in &mut answer.apps {
            let interpreter = app.spec.launch.interpreter.first().map_or("", |name| name);
            let found = show::Found { node: package::node(interpreter, &path), output: None };
            for one in &app.instances {
                out += &show::page(app, one, &found, now, context.style);
            }
        }
        Ok(answer.report(out))
    })
}

/// What the supervisor says of some targets.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) apps: Vec<Described>,
    /// Targets that name nothing, a line each.
    failed: Vec<Box<str>>,
}

/// Asks for all about these targets, or about all apps if there are none; versions are looked up.
pub(super) fn describe(client: &mut Client, targets: &[String], secrets: bool) -> Result<Answer, Error> {
    let targets = targets.iter().map(|target| target.as_str().into()).collect();
    let (mut apps, failed) = client.describe(targets, secrets)?;
    let mut versions = Versions::default();
    for one in apps.iter_mut().flat_map(|app| &mut app.instances) {
        if let Some(version) = versions.of(&one.row.script) {
            one.row.version = version.into();
        }
    }
    Ok(Answer { apps, failed })
}

impl Answer {
    /// All instances with their apps.
    pub(super) fn instances(&self) -> impl Iterator<Item = (&Described, &Detail)> {
        self.apps.iter().flat_map(|app| app.instances.iter().map(move |one| (app, one)))
    }

    /// `out`, and what there is to complain of.
    pub(super) fn report(&self, out: String) -> Report {
        let err: String = self.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
        let exit = if self.failed.is_empty() { Exit::Done } else { Exit::Failed };
        Report { out, err, exit }
    }
}
