//! The supervisor in the background: there once, when the first client that needs it returns, and away from all that the
//! client stood in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use pm3::supervisor::event::{End, Sig};

use crate::common::PM3;
use crate::common::dir::Dir;
use crate::common::ns::Ns;
use crate::common::world::World;
use crate::{bare, rows, statuses, with_scripts};

#[test]
fn the_first_start_brings_a_supervisor_that_stays() {
    let mut world = bare();
    let said = world.pm3("start app.sh").ok();
    let home = world.home("home/");
    let home = home.trim_end_matches('/');
    let expected = format!(
        "[PM3] Spawning PM3 daemon with pm3_home={home}\n[PM3] PM3 Successfully daemonized\n\
         [PM3] Starting app.sh in fork_mode (1 instance)\n[PM3] [app](0) ✓\n┌"
    );
    assert!(said.out.starts_with(&expected), "{said:#?}");
    // Nobody sat at a terminal: that is how entrypoints go wrong.
    said.says("`pm3 init FILE`").says("--no-daemon");
    world.told("up app");
    let again = world.pm3("start other.sh").ok().lacks("Spawning").lacks("--no-daemon");
    assert!(again.out.starts_with("[PM3] Starting other.sh"), "{again:#?}");
    assert_eq!(statuses(&world), ["app online", "other online"]);
    let log = fs::read_to_string(world.home("home/pm3.log")).unwrap();
    let line = log.lines().find(|line| line.contains("app: online, pid ")).unwrap();
    // In a file each line has its time.
    assert!(line.split_once("Z [pm3] ").unwrap().0.len() == "2026-01-02T03:04:05.678".len(), "{line}");
    world.end();
}

#[test]
fn it_stands_where_nothing_can_pull_it_along() {
    let world = bare();
    world.pm3("start app.sh").ok();
    let found = world.processes().into_iter().find(|process| process.line.contains("init --background")).unwrap();
    let proc = |name: &str| format!("/proc/{}/{name}", found.outside);
    let stat = fs::read_to_string(proc("stat")).unwrap();
    // state ppid pgrp session tty
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let parent = fs::read_to_string(format!("/proc/{}/status", fields[1])).unwrap();
    assert!(parent.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "adopted: {parent}");
    assert_eq!(fields[4], "0", "without a terminal: {stat}");
    assert!(fields[2] == fields[3] && stat.contains("(pm3)"), "leads a session: {stat}");
    assert_eq!(fs::read_link(proc("cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_link(proc("fd/0")).unwrap().to_str(), Some("/dev/null"));
    for fd in ["fd/1", "fd/2"] {
        assert!(fs::read_link(proc(fd)).unwrap().ends_with("home/pm3.log"), "{fd}");
    }
    world.end();
}

#[test]
fn those_who_only_look_start_nothing() {
    let world = bare();
    for line in ["list", "ping", "stop all", "restart all", "reload app.sh", "delete 0", "reset all", "scale x 2"] {
        world.pm3(line).ends(69).says("no pm3 is running here").says("`pm3 start APP`");
    }
    world.pm3("--version").ok();
    // What cannot be started starts no supervisor either.
    world.pm3("start nobody").ends(1).says("nobody: no app, namespace or id, and no script");
    world.pm3("start all").ends(1);
    assert!(world.processes().is_empty() && !fs::exists(world.home("home/pm3.log")).unwrap());
    world.pm3("kill").ok();
}

#[test]
fn there_is_no_second_one_in_the_foreground() {
    let world = bare();
    world.pm3("start app.sh").ok();
    world.pm3("start other.sh --no-daemon").ends(69).says("pm3 runs already, pid ").says("$PM3_HOME");
    assert_eq!(statuses(&world), ["app online"]);
    world.end();
}

/// An app that ends at once: so does a `pm3 init` that starts it.
const BRIEF: &str = "[[apps]]\nname = 'brief'\ncommand = 'true'\nkind = 'oneshot'\n";

#[test]
fn there_is_no_second_init_of_one_place() {
    let world = bare();
    world.file("brief.toml", BRIEF);
    world.pm3("start app.sh").ok();
    let pid = world.pm3("ping").ok().out;
    let pid = pid.split("pid ").nth(1).and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
    let there = format!("home/control.sock: pm3 runs there already, pid {};", pid.unwrap());
    let said = world.pm3("init brief.toml").ends(69).says(&there).says("`pm3 start FILE`").says("$PM3_HOME");
    assert_eq!((said.err.lines().count(), &*said.out), (1, ""), "{said:#?}");
    // Its start is its end, so had it been started it would be told.
    said.lacks("brief");
    assert_eq!(statuses(&world), ["app online"]);
    for line in [format!("init brief.toml --socket {}", world.home("s")), "init --socket @second brief.toml".into()] {
        world.pm3(&line).ok().says("brief: online").lacks("already");
    }
    world.end();
}

#[test]
fn what_a_dead_one_left_does_not_stand_in_the_way() {
    let world = bare();
    world.file("brief.toml", BRIEF);
    fs::create_dir(world.home("home")).unwrap();
    drop(UnixListener::bind(world.home("home/control.sock")).unwrap());
    fs::write(world.home("home/control.sock.lock"), "").unwrap();
    world.pm3("init brief.toml").ok().says("brief: online").lacks("already");
}

#[test]
fn pid_1_starts_whoever_listens_where_it_should() {
    let dir = Dir::new();
    let (socket, file) = (dir.at("control.sock"), dir.file("brief.toml", BRIEF));
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut init = Ns::pid1().env("PM3_HOME", dir.path()).start(&[PM3, "init", &file]);
    assert_eq!(init.end(), End::Code(0));
    let log = init.err_rest().concat();
    assert!(log.contains("pm3 runs there already") && log.contains("brief: online"), "{log}");
}

/// PID 1 with a read-only root has the abstract name alone; a second one would have a socket that nobody asks.
#[test]
fn there_is_no_second_init_beside_pid_1() {
    let dir = Dir::new();
    let file = dir.file("idle.toml", "[pm3]\nexit_policy = 'never'\n");
    let mut init = Ns::pid1().with("readonly").without("PM3_HOME").start(&[PM3, "init", &file]);
    while !init.err_line().starts_with("[pm3] pm3 ") {}
    let brief = dir.file("brief.toml", BRIEF);
    let (code, _, err) = init.inside(&[PM3, "init", &brief], &[]);
    assert!(code == 69 && err.len() == 1 && err[0].contains(": pm3 runs there already, pid 1; "), "{code}: {err:#?}");
    let (code, _, err) = init.inside(&[PM3, "init", &brief, "--socket", "@second"], &[]);
    assert!(code == 0 && err.iter().any(|line| line.contains("brief: online")), "{code}: {err:#?}");
    init.signal(Sig::TERM);
    assert_eq!(init.end(), End::Code(0));
}

#[test]
fn two_at_the_same_moment_get_one() {
    let world = bare();
    let scripts = ["app.sh", "other.sh"];
    let clients = scripts.map(|script| {
        let mut command = world.command(&[PM3, "start", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let supervisors = world.processes().into_iter().filter(|process| process.line.contains("init --background"));
    assert_eq!(supervisors.filter(|process| !process.is_gone()).count(), 1);
    let mut names: Vec<String> = rows(&world).iter().map(|row| row.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["app", "other"]);
    world.end();
}

#[test]
fn one_that_cannot_work_says_why() {
    let world = bare();
    let home = world.home("home/");
    fs::create_dir_all(format!("{home}control.sock")).unwrap();
    let said = world.pm3("start app.sh").ends(69);
    let said = said.says("pm3 could not work in the background, and said:").says("there is a file that is no socket");
    said.says("no control socket could be made");
    fs::remove_dir_all(&home).unwrap();
    world.until_empty();
    fs::write(home.trim_end_matches('/'), "").unwrap();
    world.pm3("start app.sh").ends(69).says("cannot make pm3's home");
    assert!(world.processes().is_empty());
}

#[test]
fn root_keeps_nothing_where_others_may_write() {
    let mut world = bare();
    let (above, home) = (world.home("above"), world.home("above/home"));
    world.set("PM3_HOME", &home);
    let become_mode = |path: &str, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir_all(&above).unwrap();
    let refused = |open: &str| {
        for (line, code) in [("start app.sh", 69), ("save", 1), ("resurrect", 1), ("cleardump", 1)] {
            let said = world.pm3(line).ends(code);
            let expected = format!(
                "[PM3][ERROR] pm3's home {home}: others than root may write to {open}; name a directory of root's with \
                 PM3_HOME, or run pm3 as the user whose it is\n"
            );
            assert_eq!((said.out.as_str(), said.err.as_str()), ("", expected.as_str()), "{line}");
        }
    };
    // Whoever may write above may put another home in its place.
    become_mode(&above, 0o777);
    refused(&above);
    assert!(!fs::exists(&home).unwrap());
    become_mode(&above, 0o755);
    fs::create_dir(&home).unwrap();
    // The sticky bit keeps no one from being first with the name of our log.
    for mode in [0o757, 0o1777] {
        become_mode(&home, mode);
        refused(&home);
    }
    // Above it does: nobody takes away what is not theirs.
    become_mode(&home, 0o700);
    become_mode(&above, 0o1777);
    world.pm3("start app.sh").ok();
    assert_eq!(statuses(&world), ["app online"]);
    world.end();
}

/// Of a user whom nobody else knows, as where a container says `--user 4711`.
#[test]
fn a_user_without_a_name_and_a_home_works_where_a_place_is_named() {
    let mut world = with_scripts(World::bare_in(Ns::pid1().with("uid:4711")));
    world.pm3("start app.sh").ok();
    world.told("up app");
    assert_eq!(world.row("app")["user"], "4711");
    world.pm3("save").ok();
    world.pm3("delete all").ok();
    world.pm3("resurrect").ok();
    world.told("up app");
    world.pm3("start other.sh --uid 0").ends(1).says("other: start failed at set").says("operation not permitted");
    world.pm3("kill").ok();
    world.unset("PM3_HOME");
    world.unset("HOME");
    let said = world.pm3("start app.sh").ends(69).says("4711 has no home directory; name one").says("PM3_HOME=");
    assert_eq!(said.err.lines().filter(|line| line.starts_with("[PM3][ERROR]")).count(), 1, "{said:#?}");
    assert!(world.processes().iter().all(|process| process.is_gone()));
}

#[test]
fn a_new_one_comes_after_the_last_was_ended() {
    let mut world = bare();
    for _ in 0..3 {
        world.pm3("start app.sh").ok().says("Spawning");
        world.told("up app");
        world.pm3("kill").ok().says("PM3 Daemon Stopped");
    }
    assert!(world.processes().is_empty());
}
