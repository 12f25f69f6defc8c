//! `pm3 init` on the real kernel, as PID 1 of a pid namespace and as somebody's child that adopts orphans: one chapter
//! for each thing it promises. Every wait is for an event: a line of its log or of an app, a FIFO, an exit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

#[path = "init/crowds.rs"]
mod crowds;
#[path = "init/ecosystem.rs"]
mod ecosystem;
#[path = "init/endings.rs"]
mod endings;
#[path = "init/faults.rs"]
mod faults;
#[path = "init/launch.rs"]
mod launch;
#[path = "init/memory.rs"]
mod memory;
#[path = "init/overlap.rs"]
mod overlap;
#[path = "init/ready.rs"]
mod ready;
#[path = "init/reload.rs"]
mod reload;
#[path = "init/restarts.rs"]
mod restarts;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "init/world.rs"]
mod world;
