//! The logger on the real kernel: what apps write arrives, whole, once and in its form, whatever happens to the logger, to
//! the apps and to whoever reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[path = "logs/roles.rs"]
mod roles;
#[path = "init/world.rs"]
#[allow(dead_code, reason = "the tests of init use all of it")]
mod world;
