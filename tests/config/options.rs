//! Apps from the options of a command line: what they mean, what is said about wrong ones, and changes to an app that is
//! there already.

use std::os::unix::fs::PermissionsExt;

use expect_test::expect;
use pm3::config::{self, Account, Facts, Given, Typed};
use pm3::supervisor::event::{Millis, Sig};
use pm3::supervisor::spec::AppSpec;

use super::{Scratch, app, facts, show};

fn text<'a>(option: &'a str, key: &'static str, value: &'a str) -> Given<'a> {
    Given { option, key, value: Typed::Text(value) }
}

fn list<'a>(option: &'a str, key: &'static str, values: &[&'a str]) -> Given<'a> {
    Given { option, key, value: Typed::List(values.to_vec()) }
}

fn flag<'a>(option: &'a str, key: &'static str, value: bool) -> Given<'a> {
    Given { option, key, value: Typed::Flag(value) }
}

fn script(path: &str) -> Given<'_> {
    text("", "script", path)
}

fn made(given: &[Given<'_>]) -> AppSpec {
    config::of_options(given, &facts()).map_err(|mistakes| show(&mistakes)).unwrap()
}

fn refused(given: &[Given<'_>]) -> String {
    show(&config::of_options(given, &facts()).expect_err("not refused"))
}

#[test]
fn a_script_alone_is_enough() {
    let app = made(&[script("apps/index.js")]);
    assert_eq!((&*app.name, &*app.launch.script), ("index", "apps/index.js"));
    assert_eq!(app.launch.interpreter, ["node".into()].into());
    assert_eq!(app.launch.cwd.as_deref(), Some("/srv"), "it goes to a supervisor that stands elsewhere");
    assert_eq!(app.stop.signal, Sig::TERM);
}

#[test]
fn options_are_the_keys_of_a_file() {
    let app = made(&[
        script("hello-world.py"),
        text("--name", "name", "hi"),
        text("--interpreter", "interpreter", "python"),
        text("-i", "instances", "max"),
        text("--max-memory-restart", "max_memory_restart", "20M"),
        text("--exp-backoff-restart-delay", "exp_backoff_restart_delay", "100"),
        list("--stop-exit-codes", "stop_exit_codes", &["0", "143"]),
        flag("--no-treekill", "treekill", false),
        flag("--watch", "watch", true),
        text("--cwd", "cwd", "~/shop"),
        text("-o", "out_file", "logs/out.log"),
        list("--", "args", &["--port", "$PORT", "a b"]),
    ]);
    assert_eq!((&*app.name, app.instances, app.memory_limit), ("hi", 4, Some(20 << 20)));
    assert_eq!((app.restart.backoff, &*app.restart.stop_exit_codes), (Millis(100), &[0, 143][..]));
    for codes in [text("", "stop_exit_codes", "7,8, 9"), list("", "stop_exit_codes", &["7,8", "9"])] {
        assert_eq!(*made(&[script("index.js"), codes]).restart.stop_exit_codes, [7, 8, 9]);
    }
    assert!(!app.stop.tree);
    assert_eq!(app.launch.args.join("|"), "--port|$PORT|a b", "a shell has been at work already");
    assert_eq!(app.launch.cwd.as_deref(), Some("/root/shop"));
    assert_eq!(app.launch.output.out.as_deref(), Some("/root/shop/logs/out.log"));
    assert_eq!(&*app.watch.unwrap().paths, ["/root/shop".into()]);
}

#[test]
fn a_script_with_blanks_is_a_command_line() {
    let app = made(&[script("npm run start | cat")]);
    assert_eq!((&*app.name, &*app.launch.script), ("npm", "/bin/sh"));
    assert_eq!(app.launch.args, ["-c".into(), "npm run start | cat".into()].into());
    let plain = made(&[script("npm run 'a b'")]).launch;
    assert_eq!((&*plain.script, plain.args.join("|")), ("npm", "run|a b".into()));
}

#[test]
fn a_mistake_names_the_option_as_it_was_typed() {
    let all = refused(&[
        script("index.js"),
        text("--max-memory-restart", "max_memory_restart", "20X"),
        text("-i", "instances", "abc"),
        text("-k", "kill_timeout", "soon"),
        list("--stop-exit-codes", "stop_exit_codes", &["0", "300"]),
        text("--name", "name", "all"),
        text("-c", "cron_restart", "0 3 * *"),
        text("--namespace", "namespace", "a b"),
        text("-u", "user", "www:www"),
    ]);
    expect![[r#"
        --max-memory-restart 20X: expected a size of at least 64K: bytes, or text as "20M", "1.5G", "80%"
        -i abc: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
        -k soon: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        --stop-exit-codes 300: expected a number from 0 to 255
        --name all: a number or `all` could not be told from an id or from all apps, in `pm3 stop`
        -c 0 3 * *: expected a schedule: 5 fields (minute hour day month weekday), or 6 with seconds first; these are 4
        --namespace a b: expected a name without blanks, quotes and / \ = , : (it becomes part of file names), as a-b
        -u www:www: expected a name or a number; user and group have a key each
    "#]]
    .assert_eq(&all);
    expect![[r#"
        no name, and none can be made of what it runs; give it one
    "#]]
    .assert_eq(&refused(&[script("7.js")]));
    expect![[r#"
        --name: it is empty; leave it out
        script: it is empty; leave it out
    "#]]
    .assert_eq(&refused(&[script(""), text("--name", "name", "")]));
    expect![[r#"
        --increment-var NONE: NONE is not set; give it its first value in env
    "#]]
    .assert_eq(&refused(&[script("a.js"), text("--increment-var", "increment_var", "NONE")]));
    expect![[r#"
        -l a: out_file or error_file is set too; without the logger each stream has one place: log_file for both, or the other two
    "#]]
    .assert_eq(&refused(&[
        script("a.js"),
        text("-l", "log_file", "a"),
        text("-o", "out_file", "b"),
        text("--log-type", "log_mode", "inherit"),
    ]));
}

#[test]
fn an_app_changes_in_what_is_given_and_in_nothing_else() {
    let mut before = [app(r#"
        name = "web"
        script = "server file.js"
        args = ["$$5", "b c"]
        interpreter_args = "--inspect"
        env = { TOKEN = "a$${b}", PORT = 80 }
        out_file = "o.log"
        error_file = "e.log"
        after = "db"
        kill_signal = "INT"
        watch = "src"
        [[apps]]
        script = "db"
    "#)];
    config::anchor(&mut before, &facts().start_dir);
    let [before] = before;
    assert_eq!(config::overlay(&before, &[], &facts()), Ok(before.clone()));

    let given = [
        text("--max-memory-restart", "max_memory_restart", "50M"),
        text("-l", "log_file", "both.log"),
        flag("--no-watch", "watch", false),
        list("--", "args", &["x"]),
    ];
    let after = config::overlay(&before, &given, &facts()).unwrap();
    let mut expected = AppSpec { memory_limit: Some(50 << 20), watch: None, ..before.clone() };
    expected.launch.args = ["x".into()].into();
    expected.launch.output.both = Some("/srv/both.log".into());
    assert_eq!(after, expected);

    // Nothing of init's own environment is known to whoever changes an app, and none of it is needed.
    let mut counted = before.clone();
    counted.launch.rare.get_or_insert_default().increment_var = Some("ONLY_INIT_HAS_IT".into());
    counted.cron = Some("0 3 * * *".into());
    counted.memory_limit = Some(1 << 20);
    assert_eq!(config::overlay(&counted, &[], &facts()), Ok(counted.clone()));
    let none = [text("-c", "cron_restart", "0"), text("--max-memory-restart", "max_memory_restart", "0")];
    let without = config::overlay(&counted, &none, &facts()).unwrap();
    assert_eq!((without.cron, without.memory_limit), (None, None));

    let wrong = config::overlay(&before, &[text("--restart-delay", "restart_delay", "x")], &facts()).unwrap_err();
    expect![[r#"
        --restart-delay x: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
    "#]]
    .assert_eq(&show(&wrong));
}

#[test]
fn python_is_python3_where_there_is_no_other() {
    let dir = Scratch::new();
    let with = |names: &[&str]| {
        for name in names {
            dir.write(name, "");
            std::fs::set_permissions(dir.0.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let facts = Facts { env: vec![("PATH".into(), dir.0.display().to_string())], ..dir.facts() };
        config::of_options(&[script("hello.py")], &facts).unwrap().launch.interpreter.join(" ")
    };
    assert_eq!(with(&[]), "python");
    assert_eq!(with(&["python3"]), "python3");
    assert_eq!(with(&["python"]), "python");
}

#[test]
fn what_is_not_there_is_said_before_anything_starts() {
    let dir = Scratch::new();
    dir.write("there.js", "");
    dir.write("plain", "");
    let facts = Facts { env: vec![("PATH".into(), "/nowhere:/bin".into())], ..dir.facts() };
    let known = |account: Account<'_>| account == Account::User("www");
    let mut said = String::new();
    for given in [
        vec![script("there.js"), text("", "interpreter", "sh")],
        vec![script("sh")],
        vec![script("/bin/sh"), text("-u", "user", "www")],
        vec![script("gone.js"), text("", "interpreter", "sh")],
        vec![script("gone")],
        vec![script("./sh")],
        vec![script("plain")],
        vec![script("there.js"), text("", "interpreter", "nope")],
        vec![script("there.js"), text("", "interpreter", "./nope")],
        vec![script("sh"), text("-u", "user", "nobody-here"), text("--gid", "group", "none-here")],
        vec![script("sh"), text("--cwd", "cwd", "none")],
    ] {
        let app = config::of_options(&given, &facts).map_err(|mistakes| show(&mistakes)).unwrap();
        let absent = config::absent(&[app], &facts, &known);
        said.push_str(&dir.neutral(&if absent.is_empty() { "-".into() } else { absent.join(" | ") }));
        said.push('\n');
    }
    expect![[r#"
        -
        -
        -
        gone: script not found: DIR/gone.js
        gone: script not found: DIR/gone
        sh: script not found: DIR/sh
        plain: script is not executable: DIR/plain; chmod +x, or name its interpreter
        there: interpreter nope is not in PATH; --interpreter chooses another, or none
        there: interpreter ./nope is not there; --interpreter chooses another, or none
        sh: there is no user nobody-here | sh: there is no group none-here
        sh: directory not found: DIR/none
    "#]]
    .assert_eq(&said);
}
