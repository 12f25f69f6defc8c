//! Whether apps are well, and who is told: probes of all kinds, `pm3 health`, what becomes of an app that is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "init/world.rs"]
mod world;

#[path = "health/lines.rs"]
mod lines;
#[path = "health/mainpid.rs"]
mod mainpid;
#[path = "health/notify.rs"]
mod notify;
#[path = "health/probes.rs"]
mod probes;

/// Waits for something that nobody tells of, by asking again and again.
fn until(what: &str, mut is_it: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while !is_it() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
