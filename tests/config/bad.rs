//! What is said about wrong files: all of it at once, in order, with its place.

use expect_test::{Expect, expect};
use pm3::config;

use super::{check, facts, show, spec, wrong};

#[test]
fn all_mistakes_at_once_in_their_order() {
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
        kill_timeout = "${SOON:-soon}"
        instances = 3.5
        args = 5
        vizion = true
        colour = "red"
        exit_policy = "never"
        uid = 3
        user = "x"
        [apps.env_prod]
        X = []
        [[apps]]
        script = "db.js"
        name = "db"
        after = ["web", "dbb", "db"]
        "#,
        expect![[r#"
            pm3.toml:1:1: stop_budget: belongs under [pm3]
            pm3.toml:2:1: script: belongs under [[apps]]
            pm3.toml:3:2: app: unknown, did you mean [[apps]]?
            pm3.toml:6:1: pm3: stop_bugdet: unknown key, did you mean stop_budget?
            pm3.toml:7:1: pm3: kill_timeout: belongs under [[apps]]
            pm3.toml:8:1: web: nothing to run; add script = "…" or command = "…"
            pm3.toml:10:3: web: restart = "allways": expected always, on-failure or never, did you mean always?
            pm3.toml:11:1: web: kill_timeout = "${SOON:-soon}": expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h", not "soon"
            pm3.toml:12:1: web: instances = 3.5: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
            pm3.toml:13:1: web: args = 5: expected an array of texts, or one text that is split as a shell would
            pm3.toml:14:1: web: vizion: a key of PM2 that this version of pm3 does not have
            pm3.toml:15:1: web: colour: unknown key; `pm3 check --keys` lists all
            pm3.toml:16:1: web: exit_policy: belongs under [pm3]
            pm3.toml:18:1: web: user: the same key as uid, which is set too
            pm3.toml:20:1: web: env_prod.X: expected a text, a number or a boolean
            pm3.toml:24:17: db: after: there is no app dbb, did you mean db?
            pm3.toml:24:24: db: waits for itself, so none of these could start: db -> db
        "#]],
    );
}

#[test]
fn keys_that_do_not_go_together() {
    let mut all = String::new();
    for text in [
        "name = 'x'",
        "",
        "script = 'a.js'\ncommand = 'node a.js'",
        "script = 'a.js'\nshell = true",
        "script = 'npm start'",
        "name = 'x'\ncommand = 'a'\nargs = 'b'",
        "command = 'a'\nshell = true\ninterpreter = 'b'",
        "script = 'a'\ninterpreter_args = 'b'",
        "command = '$EMPTY'",
        "name = 'x'\ncommand = '$EMPTY'",
        "name = 'x'\ncommand = '$NONE'",
        "command = 'FOO=1 bar; baz'\nshell = true",
        "command = '; bar'\nshell = true",
        "script = '7.js'",
        "script = 'a'\nkind = 'oneshot'\nautorestart = 'always'",
        "script = 'a'\nlog_file = 'b'\nout_file = 'c'\nlog_mode = 'inherit'",
        "script = 'a'\nlog_file = '/dev/stdout'",
        "script = 'a'\nerror_file = '/dev/stdout'\nout_file = '/dev/stdout'",
        "script = 'a'\nout_file = '/dev/stdout'\nlog_mode = 'none'",
        "script = 'a'\nincrement_var = 'HOME'",
        "script = 'a'\nincrement_var = 'PORT'\nargs = '-p $PORT'",
        "script = 'a'\nargs = ['${NODE_APP_INSTANCE}']",
        "script = 'a'\nargs = '-p $NONE'",
        "script = 'a'\nargs = '-p \"$PORT'",
        "script = 'a'\ncwd = '${NONE}/x'",
        "script = \"a\\u0000b\"",
        "script = 'a'\nmax_restarts = '${TWO}'",
        "script = 'a'\nenv = { 'A=B' = 1, '' = 2 }",
        "script = 'a'\nargs = ['a', ['b'], 'c']",
        "script = 'a'\nargs = [\n 'a',\n 5,\n ['b']]",
        "script = 'a'\nkill_signal = 'a very long text that nobody wants to read in a message, so it is cut'",
        "script = 'a'\ncron_restart = '99 * * * *'",
        "script = 'a'\ncron_restart = '* * * * * * *'",
        "script = 'a'\nkind = 'oneshot'\nlisten = ':80'",
        "script = 'a'\nkind = 'oneshot'\nstandby = 1",
        "script = 'a'\nexec_mode = 'fork'\nstandby = 1",
        "script = 'a'\nlisten = ':80'\nstandby = 1",
        "script = 'a'\nautorestart = 'never'\nstandby = 1",
        "script = 'a'\nlisten = ':80'\nready = 'fd:3'",
        "script = 'a'\nready = 'line:up'\nlog_mode = 'inherit'",
        "script = 'a'\nready = 'line:up'\ndisable_logs = true",
        "script = 'a'\nready = 'line:up'\nwait_ready = true",
        "script = 'a'\nready = 'line: '",
        "script = 'a'\nready = \"line:up\\nand running\"",
        "script = 'a'\nlisten = ['[::]:80', 'tcp://:80', ':81']",
        "script = 'a'\nlisten = ['http://x', 'tcp://1.2.3.4:99999', 'unix:/a/', 'unix:']",
        "script = 'a'\nlisten = [':80', 'unix:/a']\n[[apps]]\nscript = 'b'\nlisten = ['unix:///a', '0.0.0.0:80']",
    ] {
        all.push_str(&format!("# {}\n{}", text.replace('\n', ", "), wrong(text)));
    }
    expect![[r##"
        # name = 'x'
        x: nothing to run; add script = "…" or command = "…"
        # 
        app 1: nothing to run; add script = "…" or command = "…"
        # script = 'a.js', command = 'node a.js'
        a: command = 'node a.js': script is set too; one of them says what to run
        # script = 'a.js', shell = true
        a: shell = true: expected a command for the shell, in place of script
        # script = 'npm start'
        app 1: script = 'npm start': has blanks in it and is no file; a command line goes into command
        # name = 'x', command = 'a', args = 'b'
        x: args = 'b': command holds its arguments itself; they go in there, or use script
        # command = 'a', shell = true, interpreter = 'b'
        a: interpreter = 'b': with shell = true the interpreter is /bin/sh
        # script = 'a', interpreter_args = 'b'
        a: interpreter_args = 'b': there is no interpreter; set interpreter too
        # command = '$EMPTY'
        app 1: command = '$EMPTY': its variables are empty, so there is nothing to run
        # name = 'x', command = '$EMPTY'
        x: command = '$EMPTY': its variables are empty, so there is nothing to run
        # name = 'x', command = '$NONE'
        x: command = '$NONE': NONE is not set; ${NONE:-value} gives it a default, $$ is a plain dollar
        # command = 'FOO=1 bar; baz', shell = true
        app 1: no name, and none can be made of what it runs; give it one
        # command = '; bar', shell = true
        app 1: no name, and none can be made of what it runs; give it one
        # script = '7.js'
        app 1: no name, and none can be made of what it runs; give it one
        # script = 'a', kind = 'oneshot', autorestart = 'always'
        a: autorestart = 'always': a oneshot that always starts again is never done; expected on-failure or never
        # script = 'a', log_file = 'b', out_file = 'c', log_mode = 'inherit'
        a: log_file = 'b': out_file or error_file is set too; without the logger each stream has one place: log_file for both, or the other two
        # script = 'a', log_file = '/dev/stdout'
        a: log_file = '/dev/stdout': only out_file = "/dev/stdout" and error_file = "/dev/stderr" mean pm3's own
        # script = 'a', error_file = '/dev/stdout', out_file = '/dev/stdout'
        a: error_file = '/dev/stdout': only out_file = "/dev/stdout" and error_file = "/dev/stderr" mean pm3's own
        # script = 'a', out_file = '/dev/stdout', log_mode = 'none'
        a: out_file = '/dev/stdout': only out_file = "/dev/stdout" and error_file = "/dev/stderr" mean pm3's own
        # script = 'a', increment_var = 'HOME'
        a: increment_var = 'HOME': the value of HOME is not a number that could grow
        # script = 'a', increment_var = 'PORT', args = '-p $PORT'
        a: args = '-p $PORT': PORT differs between instances; in a command with shell = true, sh replaces it
        # script = 'a', args = ['${NODE_APP_INSTANCE}']
        a: args = ['${NODE_APP_INSTANCE}']: NODE_APP_INSTANCE differs between instances; in a command with shell = true, sh replaces it
        # script = 'a', args = '-p $NONE'
        a: args = '-p $NONE': NONE is not set; ${NONE:-value} gives it a default, $$ is a plain dollar
        # script = 'a', args = '-p "$PORT'
        a: args = '-p "$PORT': a " is not closed
        # script = 'a', cwd = '${NONE}/x'
        a: cwd = '${NONE}/x': NONE is not set; ${NONE:-value} gives it a default, $$ is a plain dollar
        # script = "a\u0000b"
        app 1: script = "a\u0000b": it has a NUL byte in it, which the kernel cannot take
        # script = 'a', max_restarts = '${TWO}'
        a: max_restarts = '${TWO}': expected a number of at least 1, or "unlimited" (for no restart at all: autorestart = "never"), not "a b"
        # script = 'a', env = { 'A=B' = 1, '' = 2 }
        a: env.A=B: a variable's name is not empty and has no = in it
        a: env.: a variable's name is not empty and has no = in it
        # script = 'a', args = ['a', ['b'], 'c']
        a: args[1]: expected a text or a number
        # script = 'a', args = [,  'a',,  5,,  ['b']]
        a: args[2]: expected a text or a number
        # script = 'a', kill_signal = 'a very long text that nobody wants to read in a message, so it is cut'
        a: kill_signal = 'a very long text that nobody wants to read in a message, so…: expected a signal's name or number, as "TERM", "SIGINT", "RTMIN+3" or 15
        # script = 'a', cron_restart = '99 * * * *'
        a: cron_restart = '99 * * * *': expected a schedule: 5 fields (minute hour day month weekday), or 6 with seconds first: number out of bounds
        # script = 'a', cron_restart = '* * * * * * *'
        a: cron_restart = '* * * * * * *': expected a schedule: 5 fields (minute hour day month weekday), or 6 with seconds first; these are 7
        # script = 'a', kind = 'oneshot', listen = ':80'
        a: listen = ':80': a oneshot runs to its end; who is to be reached is a service
        # script = 'a', kind = 'oneshot', standby = 1
        a: standby = 1: a oneshot runs to its end, and has no port; a spare is for a service
        # script = 'a', exec_mode = 'fork', standby = 1
        a: standby = 1: with exec_mode = "fork" each process opens its own port, and none can be held there; leave one of them out
        # script = 'a', listen = ':80', standby = 1
        a: standby = 1: what listen names is handed over at the start, so nothing holds a spare back; leave one of them out
        # script = 'a', autorestart = 'never', standby = 1
        a: standby = 1: with autorestart = "never" nothing follows an instance that has ended; leave one of them out
        # script = 'a', listen = ':80', ready = 'fd:3'
        a: ready = 'fd:3': descriptor 3 is a socket of listen; the first free one is 4
        # script = 'a', ready = 'line:up', log_mode = 'inherit'
        a: ready = 'line:up': with log_mode inherit or none pm3 does not read what it writes; expected raw, prefix or json
        # script = 'a', ready = 'line:up', disable_logs = true
        a: ready = 'line:up': with log_mode inherit or none pm3 does not read what it writes; expected raw, prefix or json
        # script = 'a', ready = 'line:up', wait_ready = true
        a: wait_ready = true: ready is set too; wait_ready is ready = "message"
        # script = 'a', ready = 'line: '
        a: ready = 'line: ': expected exec, listen, notify, message, health, fd:N (a descriptor from 3 on) or line:TEXT (up to 256 bytes of a line)
        # script = 'a', ready = "line:up\nand running"
        a: ready = "line:up\nand running": expected exec, listen, notify, message, health, fd:N (a descriptor from 3 on) or line:TEXT (up to 256 bytes of a line)
        # script = 'a', listen = ['[::]:80', 'tcp://:80', ':81']
        a: listen = ['[::]:80', 'tcp://:80', ':81']: tcp://[::]:80 is there twice
        # script = 'a', listen = ['http://x', 'tcp://1.2.3.4:99999', 'unix:/a/', 'unix:']
        a: listen[0]: expected an address and a port, as "0.0.0.0:3000" or ":3000" (all), or "unix:/run/web.sock"
        a: listen[1]: expected an address and a port, as "0.0.0.0:3000" or ":3000" (all), or "unix:/run/web.sock"
        a: listen[2]: the path of a Unix socket starts at /, as "unix:/run/web.sock"
        a: listen[3]: the path of a Unix socket starts at /, as "unix:/run/web.sock"
        # script = 'a', listen = [':80', 'unix:/a'], [[apps]], script = 'b', listen = ['unix:///a', '0.0.0.0:80']
        b: listen: unix:/a is what a listens at
    "##]].assert_eq(&all);
}

#[test]
fn apps_that_do_not_go_together() {
    check(
        r#"
        [[apps]]
        script = "a.js"
        main = true
        after = "b"
        [[apps]]
        script = "b.js"
        main = true
        requires = ["c"]
        [[apps]]
        script = "c.js"
        after = ["a"]
        requires = ["c"]
        [[apps]]
        name = "a"
        script = "d.js"
        "#,
        expect![[r#"
            pm3.toml:4:9: a: waits for itself, so none of these could start: a -> b -> c -> a
            pm3.toml:7:1: b: main = true: a is main already, and pm3 ends with one
            pm3.toml:12:13: c: waits for itself, so none of these could start: c -> c
            pm3.toml:13:1: a: the app at line 1 has this name too
        "#]],
    );
}

#[test]
fn globs_that_mean_nothing() {
    check(
        r#"
        [[apps]]
        name = "a"
        command = "x"
        watch = true
        ignore_watch = ["good/**", "logs/[ab", "{x,y"]
        "#,
        expect![[r#"
            pm3.toml:5:28: a: ignore_watch[1]: no glob: unclosed character class at byte 5; missing ']' (to match a literal '[', escape it as '\[' or '[[]')
            pm3.toml:5:40: a: ignore_watch[2]: no glob: unclosed brace expansion at byte 0; missing '}' (to match a literal '{', escape it as '\{' or '[{]')
        "#]],
    );
}

#[test]
fn a_file_without_apps() {
    check(
        "",
        expect![[r#"
        pm3.toml:1:1: no app in it; add [[apps]] with script = "…" or command = "…"
    "#]],
    );
    check(
        "[pm3]\n",
        expect![[r#"
        pm3.toml:1:1: no app in it; add [[apps]] with script = "…" or command = "…"
    "#]],
    );
    check(
        "apps = 3\npm3 = 4\n",
        expect![[r#"
            pm3.toml:1:1: apps: expected [[apps]], in double brackets, once for each app
            pm3.toml:2:1: pm3: expected a table of pm3's own settings
        "#]],
    );
    check(
        "[apps.web]\nscript = 'x'\n",
        expect![[r#"
        pm3.toml:1:2: apps: expected [[apps]], in double brackets, once for each app
    "#]],
    );
    check(
        "apps = [1, { script = 'x' }]\n",
        expect![[r#"
        pm3.toml:1:9: app 1: expected a table with script or command
    "#]],
    );
    check(
        "apps = []\n",
        expect![[r#"
        pm3.toml:1:1: no app in it; add [[apps]] with script = "…" or command = "…"
    "#]],
    );
}

#[test]
fn bounds() {
    let mut text = String::new();
    for index in 0..4096 {
        text.push_str(&format!("[[apps]]\nscript = 'a{index}'\n"));
    }
    assert_eq!(spec(&text).apps.len(), 4096);
    check_bounds(&format!("{text}[[apps]]\nscript = 'x'\n"), expect!["1: pm3.toml:8193:1: more than 4096 apps"]);
    check_bounds(
        &text.replace("script", "instances = 5\nscript"),
        expect!["1: pm3.toml:1:1: 20480 instances of all apps together, more than 16384"],
    );
    check_bounds(
        &text.replace("script", "env = { A = '${LONG}' }\nscript"),
        expect!["1: pm3.toml:1:1: the plan takes 1.4M, more than the 1M that pm3 keeps in memory; use fewer apps"],
    );
    check_bounds(
        &text.replace("script", "skript"),
        expect![
            "100: pm3.toml:100:1: app 50: skript: unknown key, did you mean script? (and at least 900 more mistakes)"
        ],
    );
}

/// The last mistake of many is enough.
fn check_bounds(text: &str, expect: Expect) {
    let mut facts = facts();
    facts.env.push(("LONG".into(), "x".repeat(300)));
    let mistakes = config::parse("pm3.toml", text, None, &facts).unwrap_err();
    assert!(mistakes.len() <= 100);
    expect.assert_eq(&format!("{}: {}", mistakes.len(), mistakes.last().unwrap()));
}

#[test]
fn syntax() {
    for (text, expect) in [
        (
            "[[apps]\nname = \"x\nfoo = \n a = 1\na = 2\n",
            expect![[r#"
            pm3.toml:1:8: unclosed array table, expected `]`
        "#]],
        ),
        (
            "[[apps]]\na = 1\na = 2\n",
            expect![[r#"
            pm3.toml:3:1: duplicate key a
        "#]],
        ),
        (
            "[[apps]]\nenv = { PASSWORD = hunter2 }\n",
            expect![[r#"
            pm3.toml:2:20: string values must be quoted, expected literal string
        "#]],
        ),
        (
            "[[apps]]\nnäme = 1\n",
            expect![[r#"
            pm3.toml:2:2: invalid unquoted key, expected letters, numbers, `-`, `_`
        "#]],
        ),
        (
            "a b = 1 2\n",
            expect![[r#"
            pm3.toml:1:3: key with no value, expected `=`
        "#]],
        ),
        (
            "[apps",
            expect![[r#"
            pm3.toml:1:6: unclosed table, expected `]`
        "#]],
        ),
        (
            "[[apps]]\nscript = 'x",
            expect![[r#"
            pm3.toml:2:12: invalid literal string, expected `'`
        "#]],
        ),
        (
            "[[apps]]\nargs = [\n",
            expect![[r#"
            pm3.toml:2:9: unclosed array, expected `]`
        "#]],
        ),
    ] {
        let mistakes = config::parse("pm3.toml", text, None, &facts()).unwrap_err();
        assert!(!show(&mistakes).contains("hunter2"));
        expect.assert_eq(&show(&mistakes));
    }
}
