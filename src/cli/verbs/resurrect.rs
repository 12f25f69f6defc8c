//! `pm3 resurrect`: brings back what `pm3 save` saved. Apps that are in the list already are left as they are. With
//! `--no-daemon` this process becomes the supervisor, as the services of `pm3 startup` want it: then nothing that was
//! saved is no mistake, because apps may still come.

use std::path::PathBuf;

use super::{Performed, save};
use crate::cli::ask::{self, Context, exit_of};
use crate::cli::background;
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, Report, foreground};
use crate::config::{self, Facts, Wanted};
use crate::control::client::{Client, Error};
use crate::supervisor::event::Verb;
use crate::supervisor::spec::{AppSpec, ExitPolicy, Settings, Spec};
use crate::sys::signals;

/// Bring back what was saved
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 resurrect\n  pm3 resurrect --no-daemon     as a service of the machine's init"
)]
pub(in crate::cli) struct Args {
    /// What was saved; default: dump.toml in pm3's home
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Become the supervisor and stay in the foreground; so as PID 1
    #[arg(long)]
    no_daemon: bool,

    #[command(flatten)]
    show: Show,
}

pub(super) fn run(args: &Args, context: &Context) -> Performed {
    let facts = ask::facts();
    let in_front = args.no_daemon || foreground::is_needed();
    if !in_front {
        signals::unblock();
    }
    let file = match args.file.clone().map_or_else(|| save::dump(context), Ok) {
        Ok(file) => file,
        Err(why) => return Performed::Said(Report::failed(Exit::Failed, why)),
    };
    let apps = match saved(&file, &facts) {
        Ok(None) if in_front && args.file.is_none() => Vec::new(),
        Ok(None) => {
            let why = format!("{}: nothing was saved there; `pm3 save` saves what runs", file.display());
            return Performed::Said(Report::failed(Exit::Failed, why));
        }
        Ok(Some(apps)) => apps,
        Err(report) => return Performed::Said(report),
    };
    let found = match context.connect() {
        Ok(client) => Some(client),
        Err(Error::Nobody(_)) => None,
        Err(error) => return Performed::Said(Report::failed(exit_of(&error), error)),
    };
    match found {
        Some(client) if in_front => Performed::Said(foreground::is_taken(&client)),
        None if in_front => {
            let cwd = facts.start_dir.to_string_lossy().into();
            // As of a supervisor in the background: the lines of apps are kept where people look for them.
            let log_dir =
                background::home(&context.places()).ok().map(|home| home.join("logs").to_string_lossy().into());
            let settings = Settings { exit: ExitPolicy::Never, cwd, log_dir, ..Settings::default() };
            foreground::of_spec(&Spec { apps, settings }, context.socket.clone())
        }
        client => Performed::Said(bring(apps, client, args, context)),
    }
}

/// The apps of a file; None: there is no such file.
fn saved(file: &std::path::Path, facts: &Facts) -> Result<Option<Vec<AppSpec>>, Report> {
    if !file.exists() {
        return Ok(None);
    }
    let wanted = Wanted { travels: true, ..Wanted::default() };
    let loaded = config::load(file, &wanted, facts, &ask::node).map_err(|mistakes| {
        let err = mistakes.iter().map(|mistake| format!("{}{mistake}\n", ask::ERROR)).collect();
        Report { out: String::new(), err, exit: Exit::Config }
    })?;
    Ok(Some(loaded.spec.apps))
}

fn bring(apps: Vec<AppSpec>, client: Option<Client>, args: &Args, context: &Context) -> Report {
    let mut telling = Telling::new(Vec::new(), &args.show);
    let Some(mut client) = client.or_else(|| background::start_one(context, &mut telling)) else {
        return telling.report();
    };
    let rows = match client.list() {
        Ok(rows) => rows,
        Err(error) => return Report::failed(exit_of(&error), error),
    };
    let (there, missing): (Vec<AppSpec>, Vec<AppSpec>) =
        apps.into_iter().partition(|app| rows.iter().any(|row| row.name == app.name));
    for app in there {
        telling.say(format_args!("[{}] is there already", app.name));
    }
    if !missing.is_empty() {
        telling.ask(&mut client, |client| client.apply(Verb::Start, missing, None, false));
    }
    telling.warn_of_lost_output(&client);
    telling.with_table(&mut client, context)
}
