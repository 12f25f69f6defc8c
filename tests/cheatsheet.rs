//! The command line as people type it, line by line, against real processes and real output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::world::World;

/// Commands come to PID 1 as with `docker exec`, with no socket named.
#[test]
fn a_container_can_be_asked() {
    let world = World::container();
    world.run(&["pwd"]).ok().says("/work\n");
    world.pm3("list").ok();
    world.pm3("ping").ok().says("pong");
    world.pm3("stop nobody").ends(1).says("nobody");
    world.end();
}
