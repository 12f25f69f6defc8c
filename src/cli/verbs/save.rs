//! `pm3 save`, `resurrect` and `cleardump`: what runs, written down as a file that `pm3 init` takes as it is, and brought
//! back from it. The file holds the apps' variables, so nobody but its owner may read it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::env::environ;
use crate::cli::ask::{Context, TAG, WARN};
use crate::cli::background::home;
use crate::cli::{Exit, Report, whole};
use crate::config;
use crate::control::Described;
use crate::control::place::DIRECTORY_MODE;
use crate::supervisor::spec::{AppSpec, ShellVariable};
use crate::sys;

/// In pm3's home.
const DUMP: &str = "dump.toml";

/// Variables that speak of one process or of one start of a service; of another one they would say what is not so.
const OF_A_PROCESS: [&str; 13] = [
    "_",
    "SHLVL",
    "OLDPWD",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "PM3_RUN",
];

/// Save what runs, for `pm3 resurrect` and `pm3 startup`
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 save\n  pm3 save --output pm3.toml")]
pub(in crate::cli) struct Save {
    /// Where to; default: dump.toml in pm3's home
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Save an empty list, too
    #[arg(short, long)]
    force: bool,
}

/// Forget what was saved; what runs goes on
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 cleardump")]
pub(in crate::cli) struct Cleardump {}

pub(super) fn save(args: &Save, context: &Context) -> Report {
    let file = match args.output.clone().map_or_else(|| dump(context), Ok) {
        Ok(file) => file,
        Err(why) => return Report::failed(Exit::Failed, why),
    };
    if let Some(home) = file.parent().filter(|_| args.output.is_none()) {
        // Whether it is there now is seen when the file is written.
        let _ = sys::dirs::make(home, DIRECTORY_MODE);
    }
    context.ask(|client| {
        let (apps, _) = client.describe(Vec::new(), true)?;
        if apps.is_empty() && !args.force {
            let why = format!("{WARN}there is no app, so nothing was saved; an empty list is saved with --force\n");
            return Ok(Report { out: String::new(), err: why, exit: Exit::Done });
        }
        let environ = environ(client.pid);
        let mut warning = String::new();
        if environ.is_none() && apps.iter().any(|app| app.by_client) {
            warning = format!(
                "{WARN}the environment of pm3, pid {}, cannot be read; what apps have of it was not saved\n",
                client.pid
            );
        }
        let environ = environ.unwrap_or_default();
        let apps: Vec<AppSpec> = apps.iter().map(|app| kept(app, &environ)).collect();
        // Without apps it is a plan for a pm3 that waits for some.
        let settings = if apps.is_empty() { "[pm3]\nexit_policy = \"never\"\n" } else { "" };
        let release = env!("CARGO_PKG_VERSION");
        let text = format!("# Saved by pm3 {release}: the apps that were there.\n\n{settings}{}", config::write(&apps));
        Ok(match store(&file, &text) {
            Ok(()) => {
                let count = format!("{} app{}", apps.len(), if apps.len() == 1 { "" } else { "s" });
                Report {
                    out: format!("{TAG} Successfully saved {count} in {}\n", file.display()),
                    err: warning,
                    exit: Exit::Done,
                }
            }
            Err(why) => Report::failed(Exit::Failed, why),
        })
    })
}

pub(super) fn cleardump(Cleardump {}: &Cleardump, context: &Context) -> Report {
    let file = match dump(context) {
        Ok(file) => file,
        Err(why) => return Report::failed(Exit::Failed, why),
    };
    match fs::remove_file(&file) {
        Ok(()) => Report::done(format!("{TAG} Successfully removed {}\n", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Report::done(format!("{TAG} Nothing was saved in {}\n", file.display()))
        }
        Err(error) => Report::failed(Exit::Failed, format_args!("{}: {}", file.display(), why(&error))),
    }
}

/// The file that is written and read where none is named.
pub(super) fn dump(context: &Context) -> Result<PathBuf, String> {
    home(&context.places()).map(|home| home.join(DUMP))
}

fn store(file: &Path, text: &str) -> Result<(), String> {
    whole::write(file, 0o600, text).map_err(|error| format!("{}: cannot write it: {}", file.display(), why(&error)))
}

fn why(error: &std::io::Error) -> Box<str> {
    sys::why(sys::errno::of(error))
}

/// An app as it is to come back, wherever and whenever pm3 is started: nothing of it may depend on where pm3 stands or what
/// is in its environment now. What was stopped comes back stopped.
fn kept(app: &Described, environ: &BTreeMap<String, String>) -> AppSpec {
    let mut spec = app.spec.clone();
    if let Some(one) = app.instances.first() {
        spec.launch.cwd = Some(one.cwd.clone());
    }
    let stopped = |status: &str| status == "stopped";
    if app.instances.iter().all(|one| stopped(&one.row.status)) {
        spec.autostart = false;
    } else if app.instances.iter().any(|one| one.row.pid > 0) {
        spec.autostart = true;
    }
    if app.by_client {
        spec.launch.shell = whole_shell(spec.launch.shell.variables(), environ).into();
    }
    spec
}

/// The variables of a shell that differs so from pm3's own environment.
fn whole_shell(shell: &[ShellVariable], own: &BTreeMap<String, String>) -> Vec<ShellVariable> {
    let mut all: BTreeMap<Box<str>, Option<Box<str>>> =
        own.iter().map(|(name, value)| (name.as_str().into(), Some(value.as_str().into()))).collect();
    all.extend(shell.iter().cloned());
    all.retain(|name, _| !OF_A_PROCESS.contains(&&**name));
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_saved_whole() {
        let own: BTreeMap<String, String> =
            [("A", "1"), ("B", "2"), ("C", "3")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let shell = [("B".into(), Some("9".into())), ("C".into(), None), ("D".into(), Some("4".into()))];
        let text = whole_shell(&shell, &own)
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-")))
            .collect::<Vec<_>>();
        assert_eq!(text, ["A=1", "B=9", "C=-", "D=4"]);
    }
}
