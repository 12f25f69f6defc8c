//! The image that the Containerfile builds, in real containers: what the pid namespaces of `ns.rs` cannot show, that is a
//! runtime's own signals, terminals, limits, filters and roots. Needs podman; the image is built without the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "rigs/init.rs"]
mod init;
#[path = "rigs/podman.rs"]
pub mod podman;
#[path = "rigs/run.rs"]
mod run;
