//! `pm3 scale`: gives an app more instances or fewer. 0 stops it and keeps it in the list, so that `pm3 scale web 2` brings
//! it back.

use crate::cli::Report;
use crate::cli::ask::Context;
use crate::cli::telling::{Show, Telling};
use crate::control::Count;

/// Give an app more instances, or fewer
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 scale web 3\n  pm3 scale web +2\n  pm3 scale web -1\n  pm3 scale web 0")]
pub(in crate::cli) struct Args {
    /// The name or id of an app
    #[arg(value_name = "APP")]
    app: String,

    /// How many there shall be; +N: so many more; -N: so many less; 0: none, the app stays in the list
    #[arg(value_name = "N", allow_hyphen_values = true, value_parser = count)]
    to: Count,

    #[command(flatten)]
    show: Show,
}

fn count(text: &str) -> Result<Count, String> {
    let (count, digits): (fn(u32) -> Count, &str) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => (Count::Up, more),
        (_, Some(less)) => (Count::Down, less),
        (None, None) => (Count::Exactly, text),
    };
    // What `parse` takes beside digits is a second sign.
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(count).ok_or_else(|| "expected a number, +N or -N".to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let mut telling = Telling::new(client.list()?, &args.show);
        telling.ask_of(&[&args.app], client, |client| client.scale(args.app.as_str().into(), args.to));
        Ok(telling.with_table(client, context))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_strict() {
        for (text, expected) in [
            ("3", Ok(Count::Exactly(3))),
            ("0", Ok(Count::Exactly(0))),
            ("+3", Ok(Count::Up(3))),
            ("-1", Ok(Count::Down(1))),
        ] {
            assert_eq!(count(text), expected);
        }
        for text in ["", "+", "-", "++1", "-+1", "+-1", "max", "3x", "1.5", "4294967296", " 1"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
