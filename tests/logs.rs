//! The logger on the real kernel: what apps write arrives, whole, once and in its form, whatever happens to the logger, to
//! the apps and to whoever reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[path = "logs/bounds.rs"]
mod bounds;
#[path = "logs/failures.rs"]
mod failures;
#[path = "logs/floods.rs"]
mod floods;
#[path = "logs/forms.rs"]
mod forms;
#[path = "logs/lossless.rs"]
mod lossless;
#[path = "logs/passage.rs"]
mod passage;
#[path = "logs/roles.rs"]
mod roles;
#[path = "logs/turns.rs"]
mod turns;
#[path = "logs/verbs.rs"]
mod verbs;
#[path = "init/world.rs"]
#[allow(dead_code, reason = "the tests of init use all of it")]
mod world;

/// Waits for something that nobody tells of, by asking again and again.
fn until(what: &str, is_it: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while !is_it() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
