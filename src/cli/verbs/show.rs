//! `pm3 show`: all about some apps, a page for each instance. And what the other verbs share that look at apps: asking for
//! descriptions, and telling of targets that name nothing.

use crate::cli::ask::{Context, ERROR, name_users};
use crate::cli::package::{self, Versions};
use crate::cli::view::{json, show};
use crate::cli::{Exit, Report, targets};
use crate::control::client::{Client, Error};
use crate::control::logs::Line;
use crate::control::{Described, Detail, Problem};
use crate::sys;
use crate::sys::users::Users;

/// Show all about apps: settings, sockets, last runs, output
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 show web\n  pm3 show 0 --json")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    look: Look,
}

/// At whom to look, and how it is printed.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Look {
    /// Names, namespaces or ids of apps, all, or /REGEX/
    #[arg(required = true, value_name = "TARGET")]
    pub(super) targets: Vec<String>,

    /// Print a JSON array, with texts exactly as they are
    #[arg(long)]
    pub(super) json: bool,

    /// Print the values of all variables
    #[arg(long)]
    pub(super) secrets: bool,
}

pub(super) fn run(Args { look }: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let mut answer = describe(client, &look.targets, look.secrets)?;
        // Where nobody can tell, `pm3 logs` says why.
        let lost = client.lost().unwrap_or_default();
        for one in answer.apps.iter_mut().flat_map(|app| &mut app.instances) {
            let own = lost.iter().filter(|lost| lost.id == one.row.id);
            one.lost = own.map(|lost| lost.why.clone()).collect();
        }
        if look.json {
            return Ok(answer.report(json::pretty(&answer.apps)));
        }
        let now = sys::clock::unix_ms();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut out = String::new();
        for app in &answer.apps {
            let interpreter = app.spec.launch.interpreter.first().map_or("", |name| name);
            let node = package::node(interpreter, &path);
            for one in &app.instances {
                let found = show::Found { node: node.clone(), output: output(client, app, one) };
                out += &show::page(app, one, &found, now, context.style);
            }
        }
        Ok(answer.report(out))
    })
}

/// What the supervisor says of some targets.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) apps: Vec<Described>,
    /// What is wrong with a target, a line each.
    failed: Vec<Box<str>>,
}

/// So many instances are described at once where all together do not fit into an answer.
const PART: usize = 100;

/// Asks for all about these targets, or about all apps if there are none; versions and the names of users are looked up.
pub(super) fn describe(client: &mut Client, words: &[String], secrets: bool) -> Result<Answer, Error> {
    let mut failed = Vec::new();
    let rows = if words.iter().any(|word| targets::is_regex(word)) { client.list()? } else { Vec::new() };
    let targets = targets::for_supervisor(words.iter().map(String::as_str), &rows, &mut failed);
    let mut answer = Answer { failed: failed.into_iter().map(Into::into).collect(), ..Answer::default() };
    // No target at all would mean everything.
    if !targets.is_empty() || words.is_empty() {
        match client.describe(targets.clone(), secrets) {
            Ok(told) => answer.take(told),
            Err(Error::Refused(refusal)) if refusal.problem == Problem::TooLong => {
                answer.take_in_parts(client, &targets, secrets)?;
            }
            Err(error) => return Err(error),
        }
    }
    let mut versions = Versions::default();
    name_users(answer.apps.iter_mut().flat_map(|app| &mut app.instances).map(|one| &mut one.row), Users::read);
    for one in answer.apps.iter_mut().flat_map(|app| &mut app.instances) {
        if let Some(version) = versions.of(&one.row.script) {
            one.row.version = version.into();
        }
    }
    Ok(answer)
}

/// So many of the last lines of output are shown: what a program says as it fails has mostly room in them.
const LINES: u32 = 20;

/// The last lines that an instance wrote, oldest first. None where nobody collects them, or remembers them now.
pub(super) fn output(client: &Client, app: &Described, one: &Detail) -> Option<Vec<Line>> {
    if !app.spec.launch.output.mode.is_collected() {
        return None;
    }
    client.recent(vec![one.row.id.to_string().into()], LINES).ok().map(|recent| recent.lines)
}

impl Answer {
    #[cfg(test)]
    pub(super) fn of(apps: Vec<Described>) -> Answer {
        Answer { apps, ..Answer::default() }
    }

    /// More of the same.
    fn take(&mut self, (apps, failed): (Vec<Described>, Vec<Box<str>>)) {
        for app in apps {
            match self.apps.last_mut().filter(|last| last.spec.name == app.spec.name) {
                Some(last) => last.instances.extend(app.instances),
                None => self.apps.push(app),
            }
        }
        self.failed.extend(failed);
    }

    /// Asks for some instances at a time.
    fn take_in_parts(&mut self, client: &mut Client, words: &[Box<str>], secrets: bool) -> Result<(), Error> {
        let rows = client.list()?;
        let mut ids: Vec<u32> = if words.is_empty() { rows.iter().map(|row| row.id).collect() } else { Vec::new() };
        for word in words {
            let found = targets::resolve(word, &rows).unwrap_or_default();
            if found.is_empty() {
                // The supervisor finds the words for it.
                self.take(client.describe(vec![word.clone()], secrets)?);
            }
            ids.extend(found.iter().map(|row| row.id));
        }
        ids.sort_unstable();
        ids.dedup();
        for part in ids.chunks(PART) {
            self.take(client.describe(part.iter().map(|id| id.to_string().into()).collect(), secrets)?);
        }
        Ok(())
    }

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
