//! `pm3 check`: the plan that a file is, or every mistake in it. It asks no supervisor.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use crate::cli::ask::{WARN, facts, node};
use crate::cli::view::Style;
use crate::cli::view::text::wrap;
use crate::cli::{Exit, Report};
use crate::config::{self, Loaded, Wanted};

/// Check a file and print what would run; every mistake at once
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 check ecosystem.config.js\n  pm3 check --keys")]
pub(in crate::cli) struct Args {
    /// The file; default: as for init
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The same, as an option
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,

    /// Apply the apps' env_PROFILE tables over env
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    env: Option<String>,

    /// Print every key that a file may have
    #[arg(long)]
    keys: bool,
}

/// The reference is for reading, which wide lines make hard.
const KEYS_WIDTH: usize = 100;

pub(super) fn run(args: Args, style: Style) -> Report {
    if args.keys {
        return Report::done(folded(&config::keys(), style.width.unwrap_or(KEYS_WIDTH).min(KEYS_WIDTH)));
    }
    let facts = facts();
    let file = match config::find(args.file.or(args.config).as_deref(), &facts) {
        Ok(file) => file,
        Err(why) => return Report::failed(Exit::Config, why),
    };
    let wanted = Wanted { profile: args.env.as_deref(), ..Wanted::default() };
    match config::load(&file, &wanted, &facts, &node) {
        Ok(Loaded { spec, warnings }) => {
            let err = warnings.iter().map(|warning| format!("{WARN}{warning}\n")).collect();
            Report { err, ..Report::done(config::plan_text(&spec)) }
        }
        Err(mistakes) => {
            let err = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            Report { out: String::new(), err, exit: Exit::Config }
        }
    }
}

/// A text with no line wider than this. What follows of a line stands below it; below a key, further in than what is
/// said of the key.
fn folded(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let rest = line.trim_start();
        let indent = line.len() - rest.len();
        let hanging = if indent == 2 { 6 } else { indent };
        for (at, part) in wrap(rest, width.saturating_sub(hanging)).into_iter().enumerate() {
            let indent = if at == 0 { indent } else { hanging };
            out.push_str(format!("{:indent$}{part}", "").trim_end());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::text;

    #[test]
    fn the_reference_fits() {
        for width in [30, 60, 100] {
            let page = folded(&config::keys(), width);
            let wide: Vec<&str> = page.lines().filter(|line| text::width(line) > width).collect();
            assert_eq!(wide, [] as [&str; 0], "{width}");
            let dense = |text: &str| text.split_whitespace().collect::<String>();
            assert!(dense(&page) == dense(&config::keys()), "{width}: nothing is lost");
        }
        let text = "[pm3]: x y\n\n  key = one two\n    said of it\n";
        assert_eq!(folded(text, 15), "[pm3]: x y\n\n  key = one\n      two\n    said of it\n");
    }
}
