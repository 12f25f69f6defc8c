//! The verbs that follow a start: restart with other options, scale, signals, delete, kill.

use std::io::Write;
use std::process::Stdio;

use pm3::supervisor::event::Sig;

use crate::common::lines::Lines;
use crate::common::ns::signal;
use crate::{bare, container, rows, statuses, write};

#[test]
fn a_restart_may_change_what_the_app_is() {
    let mut world = container();
    world.pm3("start app.sh --name web -- one").ok();
    world.told("up web one");
    world.pm3("restart web --max-memory-restart 30M").ok().says("Applying action restart on app [web](ids: [ 0 ])");
    assert_eq!(world.told("up web"), "up web one");
    assert_eq!(rows(&world)[0].limit, Some(30 << 20));
    world.pm3("restart web -- two").ok();
    world.told("up web two");
    world.pm3("restart web --name shop").ok().says("[web] is called shop now");
    assert_eq!(world.told("up shop"), "up shop two");
    assert_eq!((statuses(&world), rows(&world)[0].limit), (vec!["shop online".to_owned()], Some(30 << 20)));
    world.pm3("start other.sh").ok();
    world.pm3("restart shop --name other").ends(1).says("another app has that name");
    world.pm3("restart all --name x").ends(64).says("several apps");
    world.pm3("restart shop -i abc").ends(64).says(" -i abc: ");
    world.pm3("restart nobody -i 2").ends(1).says("nobody");
    assert_eq!(statuses(&world), ["shop online", "other online"]);
    world.end();
}

#[test]
fn scale_goes_up_and_down_and_to_nothing() {
    let world = container();
    world.pm3("start app.sh --name web").ok();
    world.pm3("scale web 3").ok().says("[web](1) ✓").says("[web](2) ✓");
    world.pm3("scale web +1").ok();
    assert_eq!(rows(&world).len(), 4);
    world.pm3("scale web -2").ok();
    assert_eq!(rows(&world).len(), 2);
    world.pm3("scale web 0").ok();
    assert_eq!(world.pm3("list").ok().out.matches("online").count(), 0);
    world.pm3("scale web 2").ok();
    assert_eq!(statuses(&world), ["web online", "web online"]);
    world.pm3("scale nobody 2").ends(1).says("nobody");
    world.pm3("scale web two").ends(64).says("expected a number, +N or -N");
    world.end();
}

#[test]
fn a_signal_reaches_the_app() {
    let mut world = container();
    let app = "trap 'echo heard > \"$TELL\"' USR2\necho up > \"$TELL\"\nwhile :; do sleep 1000 & wait; done";
    write(&world, "hear.sh", app);
    world.pm3("start hear.sh").ok();
    world.told("up");
    for line in ["sendSignal SIGUSR2 hear", "send-signal usr2 0", "signal 12 /ear/"] {
        world.pm3(line).ok().says("[hear](0) ✓");
        world.told("heard");
    }
    world.pm3("sendSignal USR2 nobody").ends(1);
    world.pm3("sendSignal USR2 /nobody/").ends(1).says("no app's name matches");
    world.end();
}

#[test]
fn delete_and_reset_take_what_restart_takes() {
    let world = container();
    world.pm3("start app.sh other.sh").ok();
    world.pm3("restart app").ok();
    assert_eq!(rows(&world)[0].restarts, 1);
    world.pm3("reset all").ok();
    assert_eq!(rows(&world)[0].restarts, 0);
    world.pm3("del /^ap/ nobody").ends(1).says("[app](0) ✓").says("nobody");
    assert_eq!(statuses(&world), ["other online"]);
    world.end();
}

#[test]
fn a_restart_of_a_file_starts_what_is_missing() {
    let mut world = container();
    let entry = |name: &str| format!("[[apps]]\nname = '{name}'\nscript = './app.sh'\n");
    world.file("shop.toml", &entry("a"));
    world.pm3("start shop.toml").ok();
    world.told("up a");
    world.file("shop.toml", &(entry("a") + "args = 'new'\n" + &entry("b")));
    world.pm3("restart shop.toml").ok().says("[PM3][WARN] Applications b not running, starting...");
    world.told("up a new");
    world.told("up b");
    world.pm3("startOrRestart shop.toml").ok();
    world.pm3("startOrReload shop.toml").ok();
    world.pm3("startOrGracefulReload shop.toml --only b").ok();
    assert_eq!(statuses(&world), ["a online", "b online"]);
    world.end();
}

#[test]
fn a_restart_of_a_file_takes_its_settings_as_they_are_now() {
    let mut world = container();
    write(&world, "vars.sh", "echo \"vars ${A-none} ${B-none}\" > \"$TELL\"; exec sleep 1000");
    let entry = |settings: &str| format!(r#"[{{"name": "a", "script": "./vars.sh", {settings}}}]"#);
    world.file("shop.json", &entry(r#""env": {"A": "1", "B": "1"}, "max_memory_restart": "30M""#));
    world.pm3("start shop.json").ok();
    assert_eq!(world.told("vars"), "vars 1 1");
    for verb in ["restart", "startOrRestart", "reload", "startOrReload"] {
        let value = verb.to_lowercase();
        world.file("shop.json", &entry(&format!(r#""env": {{"A": "{value}"}}"#)));
        world.pm3(&format!("{verb} shop.json")).ok();
        // What the file does not name any more is gone.
        assert_eq!(world.told("vars"), format!("vars {value} none"));
        assert_eq!(rows(&world)[0].limit, None, "{verb}");
    }
    world.end();
}

#[test]
fn start_or_reload_lets_the_new_process_come_first() {
    let mut world = container();
    let script = "trap 'echo \"bye $$\" > \"$TELL\"; exit' TERM\necho \"up $$\" > \"$TELL\"\nwhile :; do sleep 1000 & wait; done";
    write(&world, "polite.sh", script);
    world.file("shop.json", r#"[{"name": "a", "script": "./polite.sh", "kill_signal": "TERM"}]"#);
    for (verb, order) in [("startOrReload", ["up", "bye"]), ("startOrRestart", ["bye", "up"])] {
        world.pm3(&format!("{verb} shop.json")).ok();
        world.told("up");
        world.pm3(&format!("{verb} shop.json")).ok();
        let told = [world.told(""), world.told("")];
        assert_eq!(told.each_ref().map(|line| line.split(' ').next().unwrap()), order, "{verb}: {told:?}");
        world.pm3("delete a").ok();
        world.told("bye");
    }
    world.end();
}

#[test]
fn what_comes_next_is_shown() {
    let mut world = container();
    write(&world, "fail.sh", "exit 3");
    world.pm3("start fail.sh --restart-delay 1h").ok();
    while !world.log().next().unwrap().contains("fail: restarting in 3600000 ms") {}
    world.pm3("show fail").ok().says("│ waiting restart ").says("│ next start ").says("│ exit 3 ").says("59 min");
    world.pm3("why fail").ok().says("It starts again in 59 min.");
    assert_eq!(world.row("fail")["last reason"], "exit 3");
    world.pm3("stop fail").ok();
    world.pm3("show fail").ok().lacks("next start");
    world.end();
}

#[test]
fn silence_is_silent_and_a_short_list_short() {
    let world = container();
    let said = world.pm3("start app.sh -s").ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    for line in ["-s list", "list -s", "-s restart app", "--silent ping", "show app -s"] {
        let said = world.pm3(line).ok();
        assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""), "{line}");
    }
    world.pm3("-s jlist").ok().says("\"name\":\"app\"");
    world.pm3("-s list --json").ok().says("\"name\": \"app\"");
    world.pm3("-s show nobody").ends(1).says("nobody");
    world.pm3("restart app -m").ok().lacks("┌").says("app");
    world.pm3("restart nobody -s").ends(1).says("nobody");
    world.end();
}

#[test]
fn a_word_that_means_nobody_is_told_in_one_line_and_nothing_else() {
    let world = container();
    world.pm3("start all").ends(1).says("all: there is no app to start");
    world.pm3("start ./app.sh").ok().says("┌");
    for line in ["stop nobody", "restart nobody 7", "scale nobody 2", "delete nobody", "logs nobody --nostream"] {
        let said = world.pm3(line).ends(1).says("nobody: no such app, namespace or id; `pm3 list` shows what there is");
        assert_eq!(said.out, "", "{line}");
    }
    // Somebody else was meant too.
    world.pm3("restart nobody app").ends(1).says("nobody: no such app").says("[app](0) ✓").says("┌");
    world.pm3("logs nobody app --nostream").says("[TAILING]").says("nobody: no such app");
    // A path is shown as people would write it.
    world.pm3("show app").ok().says(&format!("{} ", world.at("app.sh"))).lacks("/./");
    world.end();
}

#[test]
fn a_user_by_number_is_called_by_name() {
    let world = container();
    world.pm3("start app.sh --uid 0").ok();
    assert_eq!(world.row("app")["user"], "root");
    world.pm3("show app").ok().says("│ root ");
    world.pm3("jlist").ok().says("\"username\":\"root\"");
    world.end();
}

/// The machines of the tests differ, so the number of processors is left out.
#[test]
fn fewer_instances_than_none_are_one_and_it_is_said() {
    let world = container();
    let said = world.pm3("start app.sh -i -2000 -s").ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    let said = world.pm3("start other.sh -i -2000").ok().says("Starting other.sh in fork_mode (1 instance)");
    let warned = said.err.strip_prefix("[PM3][WARN] -i -2000: there ").unwrap_or_else(|| panic!("{said:#?}"));
    assert!(warned.ends_with(" here, so it is 1 instance\n") && warned.lines().count() == 1, "{said:#?}");
    world.end();
}

#[test]
fn a_name_that_is_taken_cannot_be_given_to_another() {
    let mut world = container();
    world.pm3("start ./app.sh ./other.sh").ok();
    world.pm3("restart other --name app").ends(1).says("--name app: another app has that name").lacks("is called");
    assert_eq!(statuses(&world), ["app online", "other online"]);
    world.pm3("restart other --name new").ok().says("[other] is called new now");
    world.told("up new");
    assert_eq!(statuses(&world), ["app online", "new online"]);
    world.end();
}

#[test]
fn a_sample_file_is_written_once_and_starts() {
    let Some(node) = crate::common::needs("node", 1) else { return };
    let mut world = bare();
    world.program("node", &node);
    let tell = "require('fs').appendFileSync(process.env.TELL, `port ${process.env.PORT} ${process.env.NODE_ENV}\\n`)";
    world.file("server.js", &format!("{tell}\nsetInterval(() => {{}}, 1 << 30)\n"));
    let file = world.at("ecosystem.config.js");
    world.pm3("ecosystem").ok().says("ecosystem.config.js");
    let sample = std::fs::read_to_string(&file).unwrap();
    world.pm3("check ecosystem.config.js").ok().lacks("warn");
    // What somebody has made of it is not written over.
    std::fs::write(&file, sample.clone() + "// mine\n").unwrap();
    world.pm3("ecosystem").ends(1).says("ecosystem.config.js");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), sample + "// mine\n");
    world.pm3("start --only web --env prod").ok();
    // Instances share no port.
    world.told("port 80 production");
    world.told("port 81 production");
    world.end();
}

#[test]
fn start_or_restart_starts_a_supervisor_too() {
    let mut world = bare();
    world.file("shop.json", r#"[{"name": "a", "script": "./app.sh"}]"#);
    world.pm3("startOrRestart shop.json").ok().says("Spawning");
    world.told("up a");
    world.end();
}

#[test]
fn who_attaches_sees_the_output_and_leaves_the_app_running() {
    let mut world = bare();
    write(&world, "talk.sh", "echo up > \"$TELL\"; while read -r line; do echo \"said $line\"; done < talk");
    let fifo = world.at("talk");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let mut talk = std::fs::File::options().read(true).write(true).open(fifo).unwrap();
    let mut command = world.command(&["pm3", "start", "talk.sh", "--attach"]);
    let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::new("the client", client.stdout.take().unwrap());
    world.told("up");
    while !lines.next().unwrap().contains("[TAILING]") {}
    talk.write_all(b"hello\n").unwrap();
    while !lines.next().unwrap().contains("said hello") {}
    let found = world.processes().into_iter().find(|process| process.line.ends_with("--attach")).unwrap();
    signal(found.outside, Sig::INT);
    client.wait().unwrap();
    assert_eq!(statuses(&world), ["talk online"]);
    world.end();
}

#[test]
fn why_says_who_had_to_be_killed() {
    let mut world = container();
    write(&world, "deaf.sh", "#!/bin/sh\ntrap '' TERM\necho up > \"$TELL\"\nexec sleep 1000\n");
    world.pm3("start deaf.sh --kill-timeout 200").ok();
    world.told("up");
    world.pm3("stop deaf").ok();
    world.pm3("why deaf").ok().says("operator, SIGKILL after 200 ms");
    assert_eq!(&*rows(&world)[0].reason, "operator, SIGKILL after 200 ms");
    world.end();
}
