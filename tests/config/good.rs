//! What good files mean: the plan, the words that are started, names, counts, and values that depend on others.

use expect_test::expect;
use pm3::config::{self, Facts};
use pm3::supervisor::spec::{LogMode, Restart, Watch};

use super::{app, check, facts, show, spec, words};

#[test]
fn a_plain_app() {
    check(
        r#"
        [[apps]]
        script = "server.js"
        "#,
        expect![[r#"
            1 app, 1 instance

            server
              run      node server.js
              restart  always; errored after 16 runs in a row under 1s

            pm3 ends when nothing runs that will run again; stopping takes 9s at most
        "#]],
    );
}

/// PM2's two keys about the form of output are pm3's one.
#[test]
fn pm2s_forms_of_output() {
    let mode = |line: &str| app(&format!("script = 'a'\n{line}")).launch.output.mode;
    assert_eq!(mode("disable_logs = true"), LogMode::None);
    assert_eq!(mode("disable_logs = false\nlog_mode = 'json'"), LogMode::Json);
    assert_eq!(mode("log_type = 'json'"), LogMode::Json);
}

/// A supervisor that never ends by itself may wait for the apps that people start by hand.
#[test]
fn no_app_yet() {
    check(
        r#"
        [pm3]
        exit_policy = "never"
        "#,
        expect![[r#"
            0 apps, 0 instances

            pm3 ends when it is told to; stopping takes 9s at most
        "#]],
    );
}

#[test]
fn a_rich_file() {
    check(
        r#"
        [pm3]
        stop_budget = "25s"

        [[apps]]
        name = "migrate"
        kind = "oneshot"
        script = "migrate.js"

        [[apps]]
        name = "web"
        namespace = "shop"
        script = "server.js"
        cwd = "shop"
        args = "--port $PORT --name 'my shop'"
        interpreter_args = ["--max-old-space-size=${HEAP:-200}"]
        instances = "max"
        env = { NODE_ENV = "production", PORT = 3000 }
        requires = ["migrate"]
        user = "node"
        group = 1000
        umask = "027"
        nice = -5
        oom_score_adj = 100
        no_new_privs = true
        main = true
        max_memory_restart = "80%"
        exp_backoff_restart_delay = 100
        restart_jitter = "20%"
        stop_exit_codes = [0, 143]
        kill_timeout = "20s"
        out_file = "out.log"
        limits = { nofile = "1024:4096", core = "unlimited", stack = "64M" }

        [[apps]]
        name = "nightly"
        command = "echo \"$HOME\" done"
        autostart = false
        cron_restart = "0 3 * * *"
        after = ["web"]
        autorestart = "on-failure"
        restart_delay = "1.5s"
        max_restarts = "unlimited"
        kill_signal = "SIGKILL"
        log_file = "/var/log/nightly.log"

        [[apps]]
        name = "quiet"
        command = "quiet"
        log_mode = "none"
        treekill = false
        watch = ["lib", "/etc/quiet.conf"]
        ignore_watch = "*.log"
        watch_delay = "1s"
        kill_timeout = "1m"
        exit_on_error = true
        "#,
        expect![[r#"
            4 apps, 7 instances

            migrate, oneshot
              run      node migrate.js
              restart  never

            web × 4, in namespace shop
              run      node --max-old-space-size=200 server.js --port 3000 --name 'my shop'
              in       shop
              as       user node, group 1000, umask 027, nice -5, oom_score_adj 100, no new privileges
              with     NODE_ENV, PORT
              after    migrate (required)
              restart  always, waiting 100ms and ever longer, up to 15s, each wait up to 20% longer, not after exit 0, 143; errored after 16 runs in a row under 1s
              memory   restarted above 800M
              stop     SIGTERM, SIGKILL after 20s
              output   /srv/shop/out.log, errors pm3's own
              limits   core unlimited, nofile 1024:4096, stack 67108864

            nightly
              run      echo /root done
              start    not by itself
              after    web
              restart  on failure, after 1.5s; never errored
              cron     restarted at 0 3 * * *, local time
              stop     SIGKILL
              output   /var/log/nightly.log

            quiet
              run      quiet
              restart  always; errored after 16 runs in a row under 1s
              watch    restarted on changes in /srv/lib, /etc/quiet.conf, but not *.log, after 1s of quiet
              stop     SIGTERM, SIGKILL after 1m; what outlives the main process is left alone
              output   nowhere

            order: migrate, quiet; then web; then nightly
            pm3 ends when web does, or when quiet is errored, or when nothing runs that will run again; stopping takes 25s at most
            note: quiet: kill_timeout 1m ends early, with the stop_budget of 25s, when pm3 itself ends
        "#]],
    );
}

#[test]
fn what_is_started() {
    for (text, expected) in [
        ("script = 'app.js'", "node|app.js"),
        ("script = 'a/b.py'", "python|a/b.py"),
        ("script = 'run.sh'\nargs = 'a b'", "bash|run.sh|a|b"),
        ("script = './server'", "./server"),
        ("script = 'server'\nargs = ['-p', 80, 1.5, true]", "server|-p|80|1.5|true"),
        ("script = 'app.js'\ninterpreter = 'none'", "app.js"),
        ("script = 'app.js'\ninterpreter = 'deno'\ninterpreter_args = 'run -A'", "deno|run|-A|app.js"),
        ("script = 'app.js'\nnode_args = ['--inspect=0.0.0.0:$PORT']", "node|--inspect=0.0.0.0:5000|app.js"),
        ("exec = 'app.rb'", "ruby|app.rb"),
        ("command = 'node server.js --name \"my shop\"'", "node|server.js|--name|my shop"),
        ("command = 'run.sh x'", "run.sh|x"),
        ("command = 'run.sh x'\ninterpreter = 'dash'", "dash|run.sh|x"),
        ("command = \"\"\"\n server\n   --port $PORT\n\"\"\"", "server|--port|5000"),
        (
            "command = 'server :$PORT ${PORT} $$PORT \"$TWO\" $TWO ${NONE:-x} $EMPTY.'",
            "server|:5000|5000|$PORT|a b|a b|x|.",
        ),
        ("command = \"server '$PORT' \\\\$PORT\"", "server|$PORT|$PORT"),
        ("script = 'x'\nargs = ['$PORT', '${PORT}', '$$PORT', '', 'a b']", "x|5000|5000|$PORT||a b"),
        ("script = 'x'\nargs = '$PORT'\nenv = { PORT = 80 }", "x|80"),
        ("name = 'x'\nshell = true\ncommand = 'a | b $PORT ${X} $$'", "/bin/sh|-c|a | b $PORT ${X} $$"),
        ("script = '${HOME}/x-$PORT'\nname = 'x'", "/root/x-$PORT"),
    ] {
        assert_eq!(words(text).join("|"), expected, "{text}");
    }
}

#[test]
fn a_name_is_made_of_the_script() {
    for (text, name) in [
        ("script = 'src/app.js'", "app"),
        ("script = 'app.min.js'", "app.min"),
        ("script = './server'", "server"),
        ("command = '/usr/bin/env node x.js'", "env"),
        ("command = '/usr/bin/sleep 5'\nshell = true", "sleep"),
        ("script = 'app.js'\nname = 'my-app'", "my-app"),
    ] {
        assert_eq!(&*app(text).name, name, "{text}");
    }
}

#[test]
fn instances() {
    let with = |web: &str, cpus| {
        let mut facts = facts();
        facts.cpus = cpus;
        facts.env.push(("WEB_CONCURRENCY".into(), web.into()));
        facts
    };
    let count = |text: &str, facts: &Facts| {
        let spec = config::parse("pm3.toml", &format!("[[apps]]\nscript = 'web.js'\n{text}"), None, facts);
        spec.map(|spec| spec.apps[0].instances).map_err(|mistakes| show(&mistakes))
    };
    for (text, web, cpus, instances) in [
        ("", "", 4, 1),
        ("", "3", 4, 3),
        ("instances = 2", "3", 4, 2),
        ("name = 'api'", "3", 4, 1),
        ("instances = 'max'", "3", 4, 4),
        ("instances = 0", "3", 1, 1),
        ("instances = -1", "", 4, 3),
        ("instances = -1", "", 1, 1),
        ("instances = -9", "", 4, 1),
        ("instances = '${COUNT:-7}'", "", 4, 7),
        ("instances = 1024", "", 4, 1024),
    ] {
        assert_eq!(count(text, &with(web, cpus)), Ok(instances), "{text} {web}");
    }
    let auto = count("", &with("auto", 4)).unwrap_err();
    assert_eq!(
        auto,
        "pm3.toml:1:1: web: instances from $WEB_CONCURRENCY, \"auto\": expected a number; or set instances\n"
    );
}

#[test]
fn what_depends_on_something_else() {
    let oneshot = app("kind = 'oneshot'\nscript = 'x'");
    assert_eq!(oneshot.restart.when, Restart::Never);
    assert_eq!(app("script = 'x'\nautorestart = false").restart.when, Restart::Never);
    assert_eq!(app("script = 'x'\nautorestart = true").restart.when, Restart::Always);
    assert_eq!(app("script = 'x'\nmax_memory_restart = '80%'").memory_limit, Some(800 << 20));
    assert_eq!(app("script = 'x'\nmax_memory_restart = 1048576").memory_limit, Some(1 << 20));
    assert_eq!(app("script = 'x'\nnamespace = 'default'").namespace, None);
    assert_eq!(app("script = 'x'\numask = 0o27").launch.rare.unwrap().umask, Some(0o27));
    assert_eq!(app("script = 'x'").launch.rare, None);
    assert_eq!(&*spec("[[apps]]\nscript = 'x'").settings.cwd, "/srv");
    let output = app("script = 'x'\ncwd = 'shop'\nout_file = 'o'\nerror_file = '/e'").launch.output;
    assert_eq!((output.out.as_deref(), output.err.as_deref()), (Some("/srv/shop/o"), Some("/e")));
    let output = app("script = 'x'\nout_file = '/dev/stdout'\nerror_file = '/dev/stderr'").launch.output;
    assert_eq!((&output.out, &output.err), (&None, &None));
    let output = app("script = 'x'\nlog_file = 'l'").launch.output;
    assert_eq!((&output.out, &output.err, output.both.as_deref()), (&None, &None, Some("/srv/l")));
    // Beside it, pm3's own is a place like others.
    let output = app("script = 'x'\nlog_file = 'l'\nout_file = '/dev/stdout'\nerror_file = 'e'").launch.output;
    assert_eq!(
        (output.out.as_deref(), output.err.as_deref(), output.both.as_deref()),
        (Some("/dev/stdout"), Some("/srv/e"), Some("/srv/l"))
    );
}

/// Heroku's buildpacks say how much memory there is, which not every dyno's control group does.
#[test]
fn the_memory_that_is_available_counts_where_no_limit_is_known() {
    let limit = |known, variable: &str| {
        Facts::new(1, known, [("MEMORY_AVAILABLE".into(), variable.into())], "/srv".into()).memory_limit
    };
    assert_eq!(limit(None, "512"), Some(512 << 20));
    assert_eq!(limit(Some(100 << 20), "512"), Some(100 << 20));
    for strange in ["", "0", "lots", "-1", "512M", "99999999999999999999", "17592186044416"] {
        assert_eq!(limit(None, strange), None, "{strange}");
    }
}

#[test]
fn what_is_said_of_watching_is_kept_for_when_it_is_switched_on() {
    let watch = |keys: &str| app(&format!("command = \"x\"\n{keys}")).watch.map(|watch| *watch);
    assert_eq!(watch(""), None);
    assert_eq!(watch("watch = false"), None);
    let ignoring = Watch { ignore: ["logs".into()].into(), off: true, ..Watch::default() };
    assert_eq!(watch("ignore_watch = \"logs\""), Some(ignoring));
    assert_eq!(watch("watch = true").map(|watch| (watch.paths, watch.off)), Some((["/srv".into()].into(), false)));
}
