//! `pm3 completion` and `pm3 man`: what a shell and a reader of manuals need, made of the same words that are parsed.

use std::path::PathBuf;

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
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::whole_command(), "pm3", &mut script);
    Report::done(String::from_utf8_lossy(&script))
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
