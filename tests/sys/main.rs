//! `sys` against the real kernel. Forking, reaping and signal masks belong to a whole process, so each test here runs
//! in a process of its own, single-threaded as init is: this program starts itself once for every test (`alone`).
//! What is started in them is the tests' app (`common::app`), which is this program once more. Tests wait for events,
//! never for time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "tests")]

mod alone;
#[path = "../common/mod.rs"]
mod common;
mod failures;
mod ourselves;
mod signals;
mod start;
mod trees;
mod world;

fn main() -> std::process::ExitCode {
    alone::run(&[start::TESTS, failures::TESTS, signals::TESTS, trees::TESTS, ourselves::TESTS], ourselves::PARTS)
}
