//! Clustering: the ports that unmodified programs open, and what becomes of their clients when the programs come and go.
//! Needs Rust and /bin/sh alone, as root or not; real servers are in `tests/servers.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "init/world.rs"]
mod world;

#[path = "cluster/activation.rs"]
mod activation;
#[path = "cluster/bad.rs"]
mod bad;
#[path = "cluster/clients.rs"]
mod clients;
#[path = "cluster/holds.rs"]
mod holds;
#[path = "cluster/quarantine.rs"]
mod quarantine;
#[path = "cluster/reloads.rs"]
mod reloads;
#[path = "cluster/sharing.rs"]
mod sharing;
#[path = "cluster/standby.rs"]
mod standby;
