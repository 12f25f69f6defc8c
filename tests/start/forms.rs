//! The forms of `pm3 start`: what a word means, options, arguments, files, several at once, the same again.

use crate::{bare, container, rows, statuses, write};

#[test]
fn a_script_has_options_and_arguments() {
    let mut world = container();
    world.pm3("start app.sh --name web -i 2 --namespace shop --max-memory-restart 200M -- --port 80 $HOME").ok();
    for _ in 0..2 {
        assert_eq!(world.told("up web"), "up web --port 80 $HOME");
    }
    let rows = rows(&world);
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((&*row.name, &*row.namespace, row.limit), ("web", "shop", Some(200 << 20)));
    }
    world.end();
}

#[test]
fn options_that_mean_nothing_are_told_and_in_nobodys_way() {
    let mut world = container();
    let said = world.pm3("start app.sh --no-pmx --trace").ok();
    said.says("[PM3][WARN] options of PM2 without effect in pm3: --no-pmx --trace");
    world.told("up app");
    world.end();
}

#[test]
fn start_waits_for_the_word_of_an_app_that_says_when_it_is_ready() {
    let world = container();
    write(&world, "ready.sh", "#!/bin/sh\nprintf '\"ready\"\\n' >&\"$NODE_CHANNEL_FD\"\nexec ./app.sh\n");
    // Nothing but the word ends the wait within an hour.
    world.pm3("start ready.sh --wait-ready --listen-timeout 1h").ok().says("ready");
    assert_eq!(statuses(&world), ["ready online"]);
    world.pm3("restart ready --max-restarts 3").ok();
    world.pm3("show ready").ok().says("it says so; that may take 60 min");
    let said = world.pm3("start app.sh --wait-ready --listen-timeout 200").ok();
    said.lacks("WARN");
    assert_eq!(statuses(&world), ["ready online", "app online"]);
    world.end();
}

#[test]
fn a_command_line_is_one_word() {
    let mut world = container();
    let pm3 = crate::common::PM3;
    world.run(&[pm3, "start", "sh app.sh one 'two three'", "--name", "plain"]).ok();
    assert_eq!(world.told("up plain"), "up plain one two three");
    world.run(&[pm3, "start", "echo before > \"$TELL\" && exec ./app.sh shell", "--name", "piped"]).ok();
    world.told("before");
    world.told("up piped shell");
    world.end();
}

#[test]
fn a_name_means_the_app_and_a_path_the_script() {
    let mut world = container();
    write(&world, "web", crate::APP);
    world.pm3("start ./web").ok();
    world.told("up web");
    world.pm3("stop web").ok();
    // The app and not another script.
    world.pm3("start web").ok().says("Applying action start on app [web](ids: [ 0 ])");
    world.told("up web");
    assert_eq!(statuses(&world), ["web online"]);
    // By its id, its namespace, all, a regex; of several words each.
    world.pm3("start other.sh").ok();
    world.told("up other");
    world.pm3("stop all").ok();
    world.pm3("start 0 /^oth/").ok();
    assert_eq!(statuses(&world), ["web online", "other online"]);
    world.pm3("stop all").ok();
    world.pm3("start default").ok();
    assert_eq!(statuses(&world), ["web online", "other online"]);
    world.end();
}

#[test]
fn a_name_that_is_taken_is_told() {
    let mut world = container();
    world.pm3("start app.sh").ok();
    world.told("up app");
    let pid = rows(&world)[0].pid;
    world.pm3("start app.sh").ends(1).says("app: runs already; `pm3 restart app`").says("-f");
    world.pm3("start other.sh --name app").ends(1).says("an app of that name runs another script").says("app.sh");
    assert_eq!((rows(&world).len(), rows(&world)[0].pid), (1, pid));
    world.pm3("start app.sh -f").ok().says("[app] is there already, so this one is called app-2");
    world.told("up app-2");
    world.pm3("start app.sh -f").ok().says("app-3");
    world.pm3("stop app").ok();
    // What is stopped starts with the new options.
    world.pm3("start app.sh -- new").ok();
    assert_eq!(world.told("up app new"), "up app new");
    assert_eq!(statuses(&world), ["app online", "app-2 online", "app-3 online"]);
    world.end();
}

#[test]
fn a_file_brings_its_apps_and_only_those_that_are_wanted() {
    let mut world = bare();
    let text = "[[apps]]\nname = 'a'\nscript = './app.sh'\nenv = { WHAT = 'plain' }\nenv_prod = { WHAT = 'prod' }\n\
                [[apps]]\nname = 'b'\nscript = './app.sh'\n[[apps]]\nname = 'c'\nscript = './app.sh'\n";
    world.file("shop.toml", text);
    world.pm3("start shop.toml --only a,c").ok();
    assert_eq!(statuses(&world), ["a online", "c online"]);
    let pids: Vec<u32> = rows(&world).iter().map(|row| row.pid).collect();
    // The rest is started, what runs unchanged is left alone.
    world.pm3("start shop.toml").ok();
    let now: Vec<u32> = rows(&world).iter().map(|row| row.pid).collect();
    assert_eq!(now[..2], pids[..]);
    assert_eq!(statuses(&world), ["a online", "c online", "b online"]);
    world.pm3("start shop.toml --only a,nobody").ends(1).says("nobody");
    world.pm3("stop shop.toml --only b,c").ok();
    assert_eq!(statuses(&world), ["a online", "c stopped", "b stopped"]);
    world.pm3("restart shop.toml --env prod --only a").ok();
    world.pm3("restart shop.toml --env nobody").ends(78).says("nobody");
    world.pm3("delete shop.toml").ok();
    assert!(rows(&world).is_empty());
    world.told("up a");
    world.end();
}

#[test]
fn a_file_with_one_bad_app_starts_none() {
    let world = bare();
    let good = r#"{"name": "good", "script": "./app.sh"}"#;
    for (bad, says) in [
        (r#"{"name": "bad", "script": "./app.sh", "instances": "abc"}"#, "instances"),
        (r#"{"name": "bad", "script": "./none.sh"}"#, "none.sh"),
        (r#"{"name": "bad", "script": "./app.sh", "interpreter": "nope"}"#, "nope"),
        (r#"{"name": "bad", "script": "./app.sh", "uid": "nope"}"#, "nope"),
        (r#"{"name": "bad", "script": "./app.sh""#, "bad.json:"),
    ] {
        world.file("bad.json", &format!("{{\"apps\": [{good}, {bad}]}}"));
        let said = world.pm3("start bad.json").says(says);
        assert!([1, 78].contains(&said.code), "{said:#?}");
    }
    assert!(world.processes().is_empty());
}

#[test]
fn without_a_word_it_is_the_file_of_the_directory() {
    let mut world = bare();
    world.pm3("start").ends(64).says("nothing to start").says("ecosystem.config.js");
    world.file("ecosystem.json", "{ // comments are fine\n  apps: [{ name: 'here', script: './app.sh' }] }");
    world.pm3("start").ok();
    world.told("up here");
    world.end();
}

#[test]
fn json_comes_on_stdin_too() {
    use std::io::Write;
    use std::process::Stdio;
    let mut world = container();
    let mut command = world.command(&[crate::common::PM3, "start", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"[{"name": "piped", "script": "./app.sh"}]"#).unwrap();
    assert!(child.wait().unwrap().success());
    world.told("up piped");
    world.end();
}

#[test]
fn every_word_is_tried() {
    let mut world = container();
    let said = world.pm3("start app.sh nobody ./none.sh other.sh").ends(1);
    said.says("nobody: no app").says("none.sh").says("[app](0) ✓").says("[other](1) ✓");
    world.told("up app");
    world.told("up other");
    assert_eq!(statuses(&world), ["app online", "other online"]);
    world.pm3("start appp").ends(1).says("did you mean app?");
    world.end();
}

#[test]
fn an_app_gets_the_environment_of_the_shell_that_started_it() {
    let mut world = bare();
    write(&world, "env.sh", "echo \"env $name ${FRUIT-none} ${SECRET_KEY-none}\" > \"$TELL\"; exec sleep 1000");
    world.set("FRUIT", "apple");
    world.set("SECRET_KEY", "x");
    world.pm3("start env.sh --name first").ok();
    assert_eq!(world.told("env first"), "env first apple x");
    world.set("FRUIT", "pear");
    world.pm3("start env.sh --name second --filter-env SECRET_").ok();
    assert_eq!(world.told("env second"), "env second pear none");
    world.pm3("restart first").ok().says("--update-env");
    assert_eq!(world.told("env first"), "env first apple x");
    world.unset("FRUIT");
    world.pm3("restart first --update-env").ok();
    assert_eq!(world.told("env first"), "env first none x");
    world.end();
}

#[test]
fn a_script_in_javascript_says_what_the_apps_are() {
    let Some(node) = crate::common::needs("node", 1) else { return };
    let mut world = container();
    world.program("node", &node);
    world.file("ecosystem.config.js", "module.exports = { apps: [{ name: 'a', script: './app.sh', args: [1 + 1] }] }");
    world.pm3("start").ok();
    world.told("up a 2");
    world.pm3("stop ecosystem.config.js").ok();
    world.file("ecosystem.config.js", "throw new Error('no luck')");
    world.pm3("restart ecosystem.config.js").ends(78).says("no luck");
    assert_eq!(statuses(&world), ["a stopped"]);
    world.end();
}
