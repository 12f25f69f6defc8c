//! What runs is written down and brought back: by hand, by a new supervisor, and as a service does it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::world::World;

/// Tells what it was started with, then rests.
const TELLER: &str = "\
printf '%s' \"$name: A=${A-unset} B=${B-unset} cwd=$(pwd)\" > \"$TELL.$$\"
for arg; do printf ' <%s>' \"$arg\" >> \"$TELL.$$\"; done
echo >> \"$TELL.$$\"
cat \"$TELL.$$\" > \"$TELL\"
rm \"$TELL.$$\"
exec tail -f /dev/null
";

fn with_teller(mut world: World) -> World {
    world.file("teller.sh", TELLER);
    world.set("A", "1");
    world
}

#[test]
fn what_runs_comes_back_as_it_was() {
    let mut world = with_teller(World::bare());
    let here = world.at("").trim_end_matches('/').to_owned();
    world.types("pm3 start teller.sh --name web -i 2 -- one 'two  $A \"words\"'").ok();
    let told = format!("web: A=1 B=unset cwd={here} <one> <two  $A \"words\">");
    for _ in 0..2 {
        assert_eq!(world.told("web"), told);
    }
    // Another shell, whose variables are its own.
    world.set("B", "2");
    world.pm3("start teller.sh --name other").ok();
    assert_eq!(world.told("other"), format!("other: A=1 B=2 cwd={here}"));
    world.pm3("start teller.sh --name idle").ok();
    world.told("idle");
    world.pm3("stop idle").ok();
    let dump = world.home("home/dump.toml");
    world.pm3("save").ok().says(&format!("[PM3] Successfully saved 3 apps in {dump}\n"));
    assert_eq!(fs::metadata(&dump).unwrap().permissions().mode() & 0o777, 0o600);
    // Somebody may want to read it, and to change it.
    let text = fs::read_to_string(&dump).unwrap();
    assert!(text.contains("\n[apps.shell_env]\n") && text.contains("\nA = \"1\"\n"), "{text}");
    // It is a file for init as it is.
    world.pm3(&format!("check {dump}")).ok().says("3 apps, 4 instances");
    world.pm3("kill").ok();

    world.set("A", "9");
    world.unset("B");
    world.pm3("resurrect").ok().says("[web]");
    for _ in 0..2 {
        assert_eq!(world.told("web"), told);
    }
    assert_eq!(world.told("other"), format!("other: A=1 B=2 cwd={here}"));
    assert_eq!((world.row("idle")["status"].as_str(), world.row("other")["status"].as_str()), ("stopped", "online"));
    // What is there is left as it is.
    world.pm3("delete other").ok();
    world.pm3("dump --force").ok();
    let again = world.pm3("resurrect").ok();
    assert!(again.out.contains("[PM3] [web] is there already\n"), "{again:#?}");
    assert_eq!(world.untaken(), [] as [&str; 0]);
    world.end();
}

#[test]
fn an_empty_list_does_not_replace_a_saved_one() {
    let mut world = with_teller(World::bare());
    let dump = world.home("home/dump.toml");
    world.pm3("start teller.sh --name web").ok();
    world.told("web");
    world.pm3("save").ok();
    world.pm3("delete web").ok();
    world.pm3("save").ok().says("[PM3][WARN] there is no app, so nothing was saved");
    assert!(fs::read_to_string(&dump).unwrap().contains("name = \"web\""));
    world.pm3("save --force").ok().says("Successfully saved 0 apps");
    assert!(!fs::read_to_string(&dump).unwrap().contains("[[apps]]"));
    world.pm3("resurrect").ok();
    world.pm3("cleardump").ok().says("Successfully removed");
    assert!(!fs::exists(&dump).unwrap());
    world.pm3("cleardump").ok().says("Nothing was saved");
    world.pm3("resurrect").ends(1).says("dump.toml: nothing was saved there; `pm3 save` saves what runs");
    world.end();
}

#[test]
fn a_container_saves_into_a_file_of_ones_choice() {
    let mut world = with_teller(World::container());
    world.pm3("start teller.sh --name web").ok();
    world.told("web");
    world.pm3("save").ok().says(&world.home(".pm3/dump.toml"));
    world.pm3("save --output apps.toml").ok().says("Successfully saved 1 app in apps.toml");
    assert_eq!(
        fs::read_to_string(world.at("apps.toml")).unwrap(),
        fs::read_to_string(world.home(".pm3/dump.toml")).unwrap()
    );
    world
        .pm3("save --output none/apps.toml")
        .ends(1)
        .says("none/apps.toml: cannot write it: no such file or directory");
    world.pm3("check apps.toml").ok().says("1 app");
    world.end();
}

#[test]
fn a_service_is_the_supervisor_itself() {
    let mut world = with_teller(World::bare());
    // Nothing was saved yet: apps may still come.
    let mut service = world.typing("pm3 resurrect --no-daemon");
    let mut child = service.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = common::lines::Lines::new("stderr of the service", child.stderr.take().unwrap());
    assert!(lines.next().unwrap().contains("0 apps"));
    world.pm3("start teller.sh --name web").ok();
    world.told("web");
    world.pm3("save").ok();
    world.pm3("kill").ok();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut service = world.typing("pm3 resurrect --no-daemon");
    let mut child = service.stderr(std::process::Stdio::piped()).spawn().unwrap();
    world.told("web: A=1");
    assert_eq!(world.row("web")["status"], "online");
    // There can be one only.
    world.pm3("resurrect --no-daemon").ends(69).says("pm3 runs already, pid ");
    world.pm3("kill").ok();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_damaged_file_brings_nothing_back() {
    let world = with_teller(World::bare());
    let file = world.file("bad.toml", "[[apps]]\nname = \"a\"\nscript = \"teller.sh\"\n\n[[apps]]\nnam = \"b\"\n");
    world.pm3(&format!("resurrect {file}")).ends(78).says("bad.toml:6:1: ").lacks("Spawning");
    world.pm3("resurrect nowhere.toml").ends(1).says("nowhere.toml: nothing was saved there");
    world.pm3("list").ends(69);
}
