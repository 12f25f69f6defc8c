//! Whether apps are well, and who is told: probes of all kinds, `pm3 health`, what becomes of an app that is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "init/world.rs"]
mod world;

#[path = "health/notify.rs"]
mod notify;
#[path = "health/probes.rs"]
mod probes;
