//! The real binary on the real kernel, as PID 1 of a pid namespace and as somebody's child. One file for each chapter:
//! what an init must get right, point by point.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "ns/harness.rs"]
mod harness;
