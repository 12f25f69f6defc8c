//! `sys` against the real kernel. Forking, reaping and signal masks belong to a whole process, so each test here runs
//! in a process of its own, single-threaded as init is: this program starts itself once for every test. Tests wait
//! for events, never for time.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests")]

mod alone;
mod spawn;
mod world;

fn main() -> std::process::ExitCode {
    alone::run(&[spawn::TESTS])
}
