//! What configuration files mean, and what is said about those that are wrong: a table of cases.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use expect_test::{Expect, expect};
use pm3::config::{self, Facts};

/// A machine with four processors and 1000 MiB.
fn facts() -> Facts {
    let env = [("HOME", "/root"), ("PORT", "5000"), ("EMPTY", "")];
    Facts {
        cpus: 4,
        memory_limit: Some(1000 << 20),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        start_dir: "/srv".into(),
    }
}

fn read(text: &str, profile: Option<&str>) -> String {
    match config::parse("pm3.toml", text, profile, &facts()) {
        Ok(spec) => config::plan_text(&spec),
        Err(mistakes) => mistakes.iter().map(|mistake| format!("{mistake}\n")).collect(),
    }
}

fn check(text: &str, expect: Expect) {
    expect.assert_eq(&read(text, None));
}

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

#[test]
fn a_rich_app() {
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
        script = "server.js"
        cwd = "shop"
        args = "--port $PORT --name 'my shop'"
        interpreter_args = ["--max-old-space-size=${HEAP:-200}"]
        instances = "max"
        env = { NODE_ENV = "production", PORT = 3000 }
        after = "migrate"
        user = "node"
        umask = "027"
        main = true
        max_memory_restart = "80%"
        exp_backoff_restart_delay = 100
        restart_jitter = "20%"
        kill_timeout = "20s"
        out_file = "out.log"
        limits = { nofile = "1024:4096", core = "unlimited" }

        [[apps]]
        name = "nightly"
        command = "echo \"$HOME\" done"
        autostart = false
        cron_restart = "0 3 * * *"
        requires = ["web"]
        autorestart = "on-failure"
        kill_signal = "SIGKILL"
        "#,
        expect![[r#"
            3 apps, 6 instances

            migrate, oneshot
              run      node migrate.js
              restart  never

            web × 4
              run      node --max-old-space-size=200 server.js --port 3000 --name 'my shop'
              in       shop
              as       user node, umask 027
              with     NODE_ENV, PORT
              after    migrate
              restart  always, waiting 100ms and ever longer, up to 15s, each wait up to 20% longer; errored after 16 runs in a row under 1s
              memory   restarted above 800M
              stop     SIGTERM to all its processes, SIGKILL after 20s
              output   /srv/shop/out.log, errors pm3's own
              limits   core unlimited, nofile 1024:4096

            nightly
              run      echo /root done
              start    only by a verb
              after    web (required)
              restart  on failure; errored after 16 runs in a row under 1s
              cron     restarted at 0 3 * * *, local time
              stop     SIGKILL to all its processes

            order: migrate; then web; then nightly
            pm3 ends when web does, or when nothing runs that will run again; stopping takes 25s at most
        "#]],
    );
}

#[test]
fn bad() {
    check(
        r#"
        stop_budget = 3
        script = "x"
        [app]
        x = 1
        [pm3]
        stop_bugdet = 1
        kill_timeout = 2
        [[apps]]
        name = "web"
          restart = "allways"
        kill_timeout = "soon"
        instances = 3.5
        args = 5
        watch = true
        env = "A=b"
        colour = "red"
        after = ["dbb", "web", 5]
        limits = { nofile = "a", foo = 3 }
        [apps.env_prod]
        X = []
        [[apps]]
        name = "db"
        after = "web"
        kill_signal = "SIGTRM"
        "#,
        expect![[r#"
            pm3.toml:2:9: stop_budget: belongs under [pm3]
            pm3.toml:3:9: script: belongs under [[apps]]
            pm3.toml:4:10: app: unknown, did you mean [[apps]]?
            pm3.toml:7:9: pm3: stop_bugdet: unknown key, did you mean stop_budget?
            pm3.toml:8:9: pm3: kill_timeout: belongs under [[apps]]
            pm3.toml:9:9: web: nothing to run; add script = "…" or command = "…"
            pm3.toml:11:11: web: restart = "allways": expected always, on-failure or never, did you mean always?
            pm3.toml:12:9: web: kill_timeout = "soon": expected a time: milliseconds, or text as "1.5s", "200ms", "2m", "1h" (at most 49 days)
            pm3.toml:13:9: web: instances = 3.5: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
            pm3.toml:14:9: web: args = 5: expected an array of texts, or one text that is split as a shell would
            pm3.toml:15:9: web: watch: a key of PM2 that this version of pm3 does not have
            pm3.toml:16:9: web: env: expected a table of variables, each a text, a number or a boolean
            pm3.toml:17:9: web: colour: unknown key; `pm3 check --keys` lists all
            pm3.toml:18:32: web: after[2]: expected the name of an app, or an array of names
            pm3.toml:19:20: web: limits.nofile: expected a number, "unlimited", or "soft:hard" (sizes may be as "64M")
            pm3.toml:19:34: web: limits.foo: no such limit, expected as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack
            pm3.toml:21:9: web: env_prod.X: expected a text, a number or a boolean
            pm3.toml:22:9: db: nothing to run; add script = "…" or command = "…"
            pm3.toml:25:9: db: kill_signal = "SIGTRM": expected a signal's name or number, as "TERM", "SIGINT", "RTMIN+3" or 15, did you mean TERM?
        "#]],
    );
}

#[test]
fn syntax() {
    check(
        "[[apps]\nname = \"x\nfoo = \n a = 1\na = 2\n",
        expect![[r#"
        pm3.toml:1:8: unclosed array table, expected `]`
    "#]],
    );
    check(
        "a = 1\na = 2\n",
        expect![[r#"
        pm3.toml:2:1: duplicate key a
    "#]],
    );
    check(
        "a = 1 2\n",
        expect![[r#"
        pm3.toml:1:5: string values must be quoted, expected literal string
    "#]],
    );
    check(
        "a b = 1 2\n",
        expect![[r#"
        pm3.toml:1:3: key with no value, expected `=`
    "#]],
    );
    check(
        "a: 1\n",
        expect![[r#"
        pm3.toml:1:2: invalid unquoted key, expected letters, numbers, `-`, `_`
        pm3.toml:1:4: key with no value, expected `=`
    "#]],
    );
    check(
        "[apps",
        expect![[r#"
        pm3.toml:1:6: unclosed table, expected `]`
    "#]],
    );
    check(
        "a = abc",
        expect![[r#"
        pm3.toml:1:5: string values must be quoted, expected literal string
    "#]],
    );
}
