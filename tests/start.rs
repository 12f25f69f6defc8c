//! `pm3 start` in all its forms, the supervisor that it starts or becomes, and the verbs that follow: against real processes
//! with `/bin/sh` for apps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "tests")]

#[path = "start/background.rs"]
mod background;
#[path = "start/bad.rs"]
mod bad;
mod common;
#[path = "start/foreground.rs"]
mod foreground;
#[path = "start/forms.rs"]
mod forms;
#[path = "start/send.rs"]
mod send;
#[path = "start/underway.rs"]
mod underway;
#[path = "start/verbs.rs"]
mod verbs;

use common::world::World;
use pm3::control::Row;

/// An app that tells that it is up, with its arguments, and then waits for its end. A shell's child in the background does
/// not hear SIGINT, so it is ended by hand.
pub const APP: &str = "#!/bin/sh\ntrap 'kill $!; exit 0' TERM INT\necho \"up $name $*\" > \"$TELL\"\n\
                       while :; do sleep 1000 & wait; done\n";

/// A machine without a supervisor, with scripts to start: `app.sh`, `other.sh`.
pub fn bare() -> World {
    with_scripts(World::bare())
}

/// A container whose pm3 has no apps yet.
pub fn container() -> World {
    with_scripts(World::container())
}

pub fn with_scripts(world: World) -> World {
    for name in ["app.sh", "other.sh"] {
        write(&world, name, APP);
    }
    world
}

/// A file of the world's directory.
pub fn write(world: &World, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = world.file(name, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// All instances, by id.
pub fn rows(world: &World) -> Vec<Row> {
    serde_json::from_str(&world.pm3("list --json").ok().out).unwrap()
}

/// `name status` of each.
pub fn statuses(world: &World) -> Vec<String> {
    rows(world).iter().map(|row| format!("{} {}", row.name, row.status)).collect()
}
