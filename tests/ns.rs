//! The real binary on the real kernel, as PID 1 of a pid namespace and as somebody's child. What a container's init
//! must get right for `pm3 run` stands in four chapters, a test or more for each point: what the command is given
//! (`birth`), the signals that pass through pm3 (`signals`), the terminal, and the end of it all (`endings`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[path = "ns/birth.rs"]
mod birth;
#[path = "ns/endings.rs"]
mod endings;
#[path = "ns/harness.rs"]
mod harness;
#[path = "ns/signals.rs"]
mod signals;
#[path = "ns/terminal.rs"]
mod terminal;

use common::ns::Ns;
use common::{PM3, app};

/// `pm3 run FLAG… -- COMMAND…`, with the app and this script as its command.
fn run(flags: &[&str], script: &[&str]) -> Vec<String> {
    run_command(flags, &app(script))
}

fn run_command(flags: &[&str], command: &[String]) -> Vec<String> {
    let mut argv = vec![PM3.to_owned(), "run".to_owned()];
    argv.extend(flags.iter().map(|flag| (*flag).to_owned()));
    argv.push("--".to_owned());
    argv.extend_from_slice(command);
    argv
}

/// As PID 1, and as a process among others.
fn both() -> [Ns; 2] {
    [Ns::pid1(), Ns::second()]
}
