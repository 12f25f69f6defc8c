//! `pm3 ecosystem`: a file of apps to begin with. It never writes over one that is there.

use std::fs::File;
use std::io::{ErrorKind, Write};

use crate::cli::ask::TAG;
use crate::cli::{Exit, Report};
use crate::config;
use crate::control::client::words;

/// Write a sample file of apps, ecosystem.config.js
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 ecosystem")]
pub(in crate::cli) struct Args {}

/// As PM2 calls it.
const NAME: &str = "ecosystem.config.js";

pub(super) fn run(Args {}: &Args) -> Report {
    let written = File::create_new(NAME).and_then(|mut file| file.write_all(config::sample().as_bytes()));
    match written {
        Ok(()) => Report::done(format!("{TAG} {NAME} is written; change it and `pm3 start {NAME}`\n")),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Report::failed(Exit::Failed, format_args!("{NAME}: is there already; move it away, or work on that one"))
        }
        Err(error) => Report::failed(Exit::Failed, format_args!("{NAME}: {}", words(&error))),
    }
}
