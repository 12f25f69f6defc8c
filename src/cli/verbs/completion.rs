//! `pm3 completion` and `pm3 man`: what a shell and a reader of manuals need, made of the same words that are parsed. To
//! the words of the parser the scripts add the names of apps, for which a shell asks `pm3 list` when Tab is pressed.

use std::path::PathBuf;

use clap::ValueHint;
use clap_complete::Shell;

use crate::cli::ask::ERROR;
use crate::cli::{Exit, Report, args};
use crate::sys;

/// Print a script that completes pm3's words in a shell
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  source <(pm3 completion bash)\n  pm3 completion zsh > ~/.zfunc/_pm3\n  \
                  pm3 completion fish > ~/.config/fish/completions/pm3.fish")]
pub(in crate::cli) struct Completion {
    #[arg(value_name = "SHELL", value_parser = clap::builder::EnumValueParser::<Known>::new())]
    shell: Known,
}

/// The shells that are tried with pm3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Print the manual page, or write one for each verb
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 man | man -l -\n  pm3 man --dir /usr/local/share/man/man1")]
pub(in crate::cli) struct Man {
    /// Write pm3.1 and pm3-VERB.1 into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completion(args: &Completion) -> Report {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut command = args::whole_command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "pm3", &mut script);
    Report::done(with_apps(&String::from_utf8_lossy(&script), args.shell, &Takers::of(&command)))
}

/// What a word is called in help that names apps.
const NAMES_APPS: [&str; 3] = ["TARGET", "APP", "WHAT"];

/// Who takes names of apps.
#[derive(Default)]
struct Takers {
    /// Verbs that take nothing else, with all their names.
    apps: Vec<String>,
    /// Verbs that take files as well.
    files: Vec<String>,
    /// Options that take a word, which is no app's name.
    values: Vec<String>,
}

impl Takers {
    fn of(command: &clap::Command) -> Takers {
        let mut takers = Takers::default();
        for verb in command.get_subcommands() {
            let names = || [verb.get_name()].into_iter().chain(verb.get_all_aliases()).map(str::to_owned);
            match verb.get_positionals().find(|arg| names_apps(arg)) {
                None => continue,
                Some(arg) if arg.get_value_hint() == ValueHint::FilePath => takers.files.extend(names()),
                Some(_) => takers.apps.extend(names()),
            }
            let words = |arg: &&clap::Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
            for option in verb.get_opts().filter(words) {
                let longs = option.get_long_and_visible_aliases().unwrap_or_default();
                takers.values.extend(longs.into_iter().map(|long| format!("--{long}")));
                takers.values.extend(option.get_short().map(|short| format!("-{short}")));
            }
        }
        takers.values.sort();
        takers.values.dedup();
        takers
    }
}

fn names_apps(arg: &clap::Arg) -> bool {
    arg.get_value_names().into_iter().flatten().any(|name| NAMES_APPS.contains(&name.as_str()))
}

/// A script with the names of apps.
fn with_apps(script: &str, shell: Known, takers: &Takers) -> String {
    let Takers { apps, files, values } = takers;
    let filled = |text: &str, between: &str| {
        let text = text.replace("@APPS@", &apps.join(between)).replace("@FILES@", &files.join(between));
        text.replace("@VALUES@", &values.join(between))
    };
    match shell {
        Known::Bash => {
            let own = filled(include_str!("completion/apps.bash"), " | ");
            before(script, "if [[ \"${BASH_VERSINFO[0]}\"", &own)
                .replace("complete -F _pm3 ", "complete -F _pm3_with_apps ")
        }
        Known::Zsh => {
            let starts = ["'*::target", "'::target", "':target", "':app"];
            let action = |line: &str| {
                if !starts.iter().any(|start| line.starts_with(start)) {
                    return format!("{line}\n");
                }
                let line = line.replace(":_default' ", ":_pm3_apps' ").replace(":_files' ", ":_pm3_apps_or_files' ");
                // With `::` all that follows the first of them would be one, options too.
                format!("{}\n", line.replacen("'*::", "'*:", 1))
            };
            let script: String = script.lines().map(action).collect();
            before(&script, "if [ \"$funcstack[1]\"", include_str!("completion/apps.zsh"))
        }
        Known::Fish => script.to_owned() + &filled(include_str!("completion/apps.fish"), " "),
    }
}

/// A script with more before the last place where this stands.
fn before(script: &str, place: &str, more: &str) -> String {
    let (start, end) = script.split_at(script.rfind(place).unwrap_or(script.len()));
    [start, more, end].concat()
}

pub(super) fn man(args: &Man) -> Report {
    let failed = |what: String, error: std::io::Error| {
        let why = sys::why(sys::errno::of(&error));
        Report { out: String::new(), err: format!("{ERROR}{what}: {why}\n"), exit: Exit::Failed }
    };
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(args::whole_command()).render(&mut page) {
            Ok(()) => Report::done(String::from_utf8_lossy(&page)),
            Err(error) => failed("the manual page".to_owned(), error),
        };
    };
    match clap_mangen::generate_to(args::whole_command(), dir) {
        Ok(()) => Report::done(format!("{} wrote the manual pages into {}\n", crate::cli::ask::TAG, dir.display())),
        Err(error) => failed(dir.display().to_string(), error),
    }
}
