//! Files of apps in JSON and YAML, and what a script exports: what they mean, that each mistake has its place, and what
//! PM2's users find as they are used to.

use expect_test::{Expect, expect};
use pm3::config::{self, Form, Loaded, Wanted};
use pm3::supervisor::event::Sig;
use pm3::supervisor::spec::AppSpec;

use super::{facts, show};

/// The plan and the warnings, or the mistakes, of a text that is read with the test's indentation taken away.
fn check(form: Form, text: &str, expect: Expect) {
    let text = text.strip_prefix('\n').unwrap_or(text).replace("\n        ", "\n");
    expect.assert_eq(&outcome(config::read("f", form, text.trim_start_matches(' '), &Wanted::default(), &facts())));
}

/// The same, of what was read.
pub(super) fn outcome(read: Result<Loaded, Vec<config::Mistake>>) -> String {
    match read {
        Ok(Loaded { spec, warnings }) => {
            let warnings: String = warnings.iter().map(|warning| format!("! {warning}\n")).collect();
            warnings + &config::plan_text(&spec)
        }
        Err(mistakes) => show(&mistakes),
    }
}

fn loaded(form: Form, text: &str) -> Loaded {
    config::read("f", form, text, &Wanted::default(), &facts()).map_err(|mistakes| show(&mistakes)).unwrap()
}

/// All that is wrong with a text.
fn wrong(form: Form, text: &str) -> String {
    show(&config::read("f", form, text, &Wanted::default(), &facts()).expect_err(text))
}

#[test]
fn json_is_what_javascript_would_read() {
    let text = r#"
        // The apps.
        {
            "apps": [{
                name: 'web', /* quotes as one likes */
                script: "server.js",
                args: ["--port", 0x50, 1e3, 1.0, -.5, +2],
                env: { "PORT": 3000, 'NODE-ENV': "pro\u0064\x75ction\n", RATIO: 0.5, ON: true, NONE: null, LIST: [1, "a"] },
                instances: "max",
                interpreter: null,
                pmx: false,
            },],
            deploy: { production: {} },
        }
        "#;
    check(
        Form::Json,
        text,
        expect![[r#"
            ! f: passed over, as pm3 has no use for it: deploy, pmx
            1 app, 4 instances

            web × 4
              run      node server.js --port 80 1000 1 -0.5 2
              with     LIST, NODE-ENV, ON, PORT, RATIO
              restart  always; errored after 16 runs in a row under 1s
              stop     SIGINT, SIGKILL after 8s

            pm3 ends when nothing runs that will run again; stopping takes 9s at most
        "#]],
    );
    let env = &loaded(Form::Json, text).spec.apps[0].launch.env;
    let value = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    assert_eq!((value("NODE-ENV"), value("LIST")), (Some("production\n"), Some("[1,\"a\"]")));
}

#[test]
fn yaml_is_what_js_yaml_would_read() {
    check(
        Form::Yaml,
        r#"
        # The apps.
        x-defaults: &defaults
          max_memory_restart: 300M
        apps:
          - <<: *defaults
            name: web
            script: server.js
            args: "--port 80 'a b'"
            autorestart: true
            cron_restart: 0 3 * * *
          - <<: [*defaults, { name: db, script: other.js }]
            script: db.js
            max_memory_restart: 1G
            vizion: false
        "#,
        expect![[r#"
            ! f: passed over, as pm3 has no use for it: vizion
            2 apps, 2 instances

            web
              run      node server.js --port 80 'a b'
              restart  always; errored after 16 runs in a row under 1s
              memory   restarted above 300M
              cron     restarted at 0 3 * * *, local time
              stop     SIGINT, SIGKILL after 8s

            db
              run      node db.js
              restart  always; errored after 16 runs in a row under 1s
              memory   restarted above 1G
              stop     SIGINT, SIGKILL after 8s

            pm3 ends when nothing runs that will run again; stopping takes 9s at most
        "#]],
    );
    let text = "apps:\n  - &web\n    name: web\n    script: s.js\n    env: &env\n      PORT: 0o120\n      NO: no\n      HEX: 0x10\n      \
                V: '1.0'\n      F: 1.0\n      D: 2026-11-23\n      E:\n      T: !!str 5\n      U: ! 6\n      L: >-\n        two\n        lines\n  \
                - <<: *web\n    name: web-2\n    env: { <<: *env, PORT: 81 }\n    autorestart: false\n";
    let Loaded { spec, .. } = loaded(Form::Yaml, text);
    let env = |at: usize| {
        let env = spec.apps[at].launch.env.iter();
        env.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env(0), "D=2026-11-23 F=1 HEX=16 L=two lines NO=no PORT=80 T=5 U=6 V=1.0");
    assert_eq!(env(1), "D=2026-11-23 F=1 HEX=16 L=two lines NO=no PORT=81 T=5 U=6 V=1.0");
    assert_eq!(&*spec.apps[1].launch.script, "s.js");
}

#[test]
fn a_list_or_one_app_is_a_file_too() {
    let list = "[{ script: 'a.js' }, { script: 'b.js' }]";
    for (form, text, names) in [
        (Form::Json, list, "a b"),
        (Form::Script, list, "a b"),
        (Form::Json, "{ script: 'a.js' }", "a"),
        (Form::Json, "{ exec: 'a.js', env_prod: {} }", "a"),
        (Form::Json, "{ apps: { script: 'a.js' } }", "a"),
        (Form::Yaml, "- script: a.js\n- script: b.js\n", "a b"),
        (Form::Yaml, "script: a.js\n", "a"),
        (Form::Yaml, "\u{feff}apps:\r\n  - script: a.js\r\n    name: ä\r\n", "ä"),
        (Form::Json, "\u{feff}{\r\n  apps: [{ script: 'a.js', }]\r\n}\r\n", "a"),
        (Form::Yaml, "---\napps: [{ script: a.js }]\n...\n", "a"),
        (Form::Json, "{ apps: [{ script: 'a.js' }], pm3: { stop_budget: '3s' } }", "a"),
    ] {
        let apps = loaded(form, text).spec.apps;
        assert_eq!(apps.iter().map(|app| &*app.name).collect::<Vec<_>>().join(" "), names, "{text}");
        assert!(apps.iter().all(|app| app.stop.signal == Sig::INT), "{text}");
    }
}

#[test]
fn what_was_written_for_pm2_means_what_it_meant() {
    let app = |text: &str| loaded(Form::Json, &format!("[{{ {text} }}]")).spec.apps.remove(0);
    // A dollar is a dollar: nobody has replaced variables here before.
    let plain = app("script: 'a.js', args: ['$HOME', '${X}', '$$'], env: { PASSWORD: 'a$$b${c}' }");
    assert_eq!(plain.launch.args.join(" "), "$HOME ${X} $$");
    assert_eq!(plain.launch.env, [("PASSWORD".into(), "a$$b${c}".into())].into());
    assert_eq!(app("script: 'a.js', args: '-x \"$HOME y\" z'").launch.args.join("|"), "-x|$HOME y|z");
    // Blanks make a command line of it, under whatever name; a shell reads it if it has something to say to one.
    for (line, words) in [
        ("npm run start", "npm|run|start"),
        ("python3 -u 'my app.py'", "python3|-u|my app.py"),
        ("PORT=80 node x.js", "/bin/sh|-c|PORT=80 node x.js"),
        ("node x.js $PORT", "/bin/sh|-c|node x.js $PORT"),
        ("cd x && ./y", "/bin/sh|-c|cd x && ./y"),
    ] {
        let launch = app(&format!("name: 'x', script: {line:?}")).launch;
        assert_eq!(format!("{}|{}", launch.script, launch.args.join("|")), words);
        assert!(launch.interpreter.is_empty(), "{line}");
    }
    for text in
        ["script: 'npm run x | cat'", "command: 'npm run x | cat'", "cmd: 'npm run x | cat', interpreter: 'none'"]
    {
        let line = app(text);
        assert_eq!((&*line.name, line.launch.args.join("|")), ("npm", "-c|npm run x | cat".into()), "{text}");
    }
    assert!(wrong(Form::Json, "{ script: 'a \\'b' }").contains("a ' is not closed"));
    assert_eq!(app("command: 'server.js'").launch.interpreter.join(" "), "node");
    assert_eq!(app("script: 'a.js', kill_signal: 'SIGTERM'").stop.signal, Sig::TERM);
    assert_eq!(env_of(app("script: 'a.js', port: 80, env: { PORT: 1 }")), "PORT=80");
    assert_eq!(env_of(app("script: 'a.py'")), "PYTHONUNBUFFERED=1");
    assert_eq!(env_of(app("script: 'a.py', env: { PYTHONUNBUFFERED: '' }")), "PYTHONUNBUFFERED=");
    let paths = app("script: 'a.js', cwd: '~/x', out_file: 'NULL', error_file: '~/e.log'");
    assert_eq!(paths.launch.cwd.as_deref(), Some("/root/x"));
    assert_eq!(paths.launch.output.out.as_deref(), Some("/dev/null"));
    assert_eq!(paths.launch.output.err.as_deref(), Some("/root/e.log"));
}

/// The variables that a script gets.
fn env_of(app: AppSpec) -> String {
    app.launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn all_mistakes_at_once_with_their_places() {
    check(
        Form::Json,
        r#"
        {
          apps: [
            { name: "web", script: "a.js", max_memory_restart: "20X",
              instnaces: 2, env: { A: 1 }, kill_timeout: [1] },
            { name: "web", script: "b.js", stop_exit_codes: [0, 300] }, 5
          ],
          app: []
        }
        "#,
        expect![[r#"
            f:3:36: web: max_memory_restart = "20X": expected a size of at least 64K: bytes, or text as "20M", "1.5G", "80%"
            f:4:7: web: instnaces: unknown key, did you mean instances?
            f:4:36: web: kill_timeout = [1]: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
            f:5:5: web: the app at line 3 has this name too
            f:5:57: web: stop_exit_codes[1]: expected a number from 0 to 255
            f:5:65: app 3: expected a table with script or command
            f:7:3: app: unknown, did you mean apps?
        "#]],
    );
    check(
        Form::Yaml,
        r#"
        apps:
          - name: web
            script: a.js
            max_memory_restart: 20X   # too small
            instnaces: 2
            watch: yes
            autorestart: off
            env:
              A: [1]
              B: { c: 2 }
            kill_signal:
              - TERM
          - script: a.js
            name: web
        "#,
        expect![[r#"
            f:4:5: web: max_memory_restart = 20X: expected a size of at least 64K: bytes, or text as "20M", "1.5G", "80%"
            f:5:5: web: instnaces: unknown key, did you mean instances?
            f:6:5: web: watch = yes: expected true, false, a path or an array of paths
            f:7:5: web: autorestart = off: expected always, on-failure or never
            f:11:5: web: kill_signal = - TERM…: expected a signal's name or number, as "TERM", "SIGINT", "RTMIN+3" or 15
            f:13:5: web: the app at line 2 has this name too
        "#]],
    );
}

#[test]
fn a_text_that_is_not_of_its_language_says_where() {
    let mut all = String::new();
    for (form, text) in [
        (Form::Json, ""),
        (Form::Json, "{ apps: ["),
        (Form::Json, "{ apps: [{ script: 'a.js' } { }] }"),
        (Form::Json, "{ 'apps' [] }"),
        (Form::Json, "{ apps: [] } x"),
        (Form::Json, "{ script: 'a\n.js' }"),
        (Form::Json, "{ script: 'a.js\\"),
        (Form::Json, "{ script: '\\ud800' }"),
        (Form::Json, "{ script: path.join('a') }"),
        (Form::Json, "module.exports = {}"),
        (Form::Json, "{ script: 'a', instances: 1.2.3 }"),
        (Form::Json, "{ script: 'a', instances: 99999999999999999999 }"),
        (Form::Json, "{ script: 'a', script: 'b' }"),
        (Form::Json, "/* { script: 'a' }"),
        (Form::Json, "{ apps: [{ script: 'a', stop_budget: 1 }], pm3: { script: 'b' }, exit_policy: 'never' }"),
        (Form::Json, "{ apps: [{ script: 'a' }], pm3: [] }"),
        (Form::Json, "5"),
        (Form::Json, "{}"),
        (Form::Json, "[]"),
        (Form::Json, "null"),
        (Form::Yaml, ""),
        (Form::Yaml, "# nothing\n"),
        (Form::Yaml, "apps:\n\t- script: a.js\n"),
        (Form::Yaml, "apps:\n  - script: a.js\n name: b\n"),
        (Form::Yaml, "apps: [{ script: a.js }\n"),
        (Form::Yaml, "apps: &a [*a]\n"),
        (Form::Yaml, "apps: *b\n"),
        (Form::Yaml, "script: a\nscript: b\n"),
        (Form::Yaml, "script: a\n---\nscript: b\n"),
        (Form::Yaml, "script: !!int a\n"),
        (Form::Yaml, "script: !!binary YQ==\n"),
        (Form::Yaml, "script: !mine a\n"),
        (Form::Yaml, "? [a, b]\n: c\n"),
        (Form::Yaml, "<<: 5\nscript: a\n"),
        (Form::Yaml, "script: \"a\n"),
        (Form::Yaml, "just a text"),
        (Form::Toml, "apps = [{ script = 'a' }"),
        (Form::Toml, "\u{feff}[[apps]]\r\nscript = 'a'\r\nscript = 'b'\r\n"),
    ] {
        all.push_str(&format!("# {}\n{}", text.escape_debug(), wrong(form, text)));
    }
    expect![[r##"
        # 
        f:1:1: expected a value, the file ends here
        # { apps: [
        f:1:9: no ] closes this
        # { apps: [{ script: \'a.js\' } { }] }
        f:1:29: expected a comma or ], not '{'
        # { \'apps\' [] }
        f:1:10: expected a colon, not '['
        # { apps: [] } x
        f:1:14: expected the end of the file: one value is all it holds, not 'x'
        # { script: \'a\n.js\' }
        f:1:11: a text that does not end on its line
        # { script: \'a.js\\
        f:1:11: a text that does not end on its line
        # { script: \'\\ud800\' }
        f:1:12: expected \uHHHH, a letter in hexadecimal
        # { script: path.join(\'a\') }
        f:1:11: expected a value: JSON holds no expressions; a text is in quotes, and what is to be computed goes into a .js file
        # module.exports = {}
        f:1:1: expected a value: JSON holds no expressions; a text is in quotes, and what is to be computed goes into a .js file
        # { script: \'a\', instances: 1.2.3 }
        f:1:27: 1.2.3 is no number
        # { script: \'a\', instances: 99999999999999999999 }
        f:1:16: a: instances = 99999999999999999999: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
        # { script: \'a\', script: \'b\' }
        f:1:16: duplicate key script
        # /* { script: \'a\' }
        f:1:1: a comment that does not end
        # { apps: [{ script: \'a\', stop_budget: 1 }], pm3: { script: \'b\' }, exit_policy: \'never\' }
        f:1:25: a: stop_budget: belongs under pm3
        f:1:51: pm3: script: belongs under apps
        f:1:66: exit_policy: belongs under pm3
        # { apps: [{ script: \'a\' }], pm3: [] }
        f:1:28: pm3: expected a table of pm3's own settings
        # 5
        f:1:1: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        # {}
        f:1:1: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        # []
        f:1:1: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        # null
        f:1:1: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        # 
        f:1:1: there is nothing in it; a file of apps has apps: and a list
        # # nothing\n
        f:1:1: there is nothing in it; a file of apps has apps: and a list
        # apps:\n\t- script: a.js\n
        f:2:2: tabs disallowed within this context (block indentation)
        # apps:\n  - script: a.js\n name: b\n
        f:3:2: while parsing a block mapping, did not find expected key
        # apps: [{ script: a.js }\n
        f:2:1: while parsing a flow sequence, expected ',' or ']'
        # apps: &a [*a]\n
        f:1:11: an alias to itself
        # apps: *b\n
        f:1:7: while parsing node, found unknown anchor
        # script: a\nscript: b\n
        f:2:1: duplicate key script
        # script: a\n---\nscript: b\n
        f:2:1: a second document; a file of apps has one
        # script: !!int a\n
        f:1:9: this is no int
        # script: !!binary YQ==\n
        f:1:9: a tag that means nothing here: !!binary
        # script: !mine a\n
        f:1:9: a tag that means nothing here: !mine
        # ? [a, b]\n: c\n
        f:1:3: expected a name for a key
        # <<: 5\nscript: a\n
        f:1:5: expected a table, or a list of tables, to merge
        # script: \"a\n
        f:1:9: while scanning a quoted scalar, found unexpected end of stream
        # just a text
        f:1:1: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        # apps = [{ script = \'a\' }
        f:1:25: unclosed array, expected `]`
        # \u{feff}[[apps]]\r\nscript = \'a\'\r\nscript = \'b\'\r\n
        f:3:1: duplicate key script
    "##]].assert_eq(&all);
}

#[test]
fn nothing_grows_without_bound() {
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let laughs = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, at| {
        text + &format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 9].join(", "))
    });
    let keys: String = (0..50_000).map(|key| format!("k{key}: 1,")).collect();
    for (what, form, text, say) in [
        ("lists", Form::Json, deep("[", "]"), "nested deeper than 64"),
        ("tables", Form::Json, deep("{a:", "}"), "nested deeper than 64"),
        // The parser's own bound comes first, where it must look far ahead.
        ("lists", Form::Yaml, deep("[", "]"), "recursion limit exceeded"),
        ("tables", Form::Yaml, deep("{a: ", "}"), "recursion limit exceeded"),
        (
            "blocks",
            Form::Yaml,
            (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
            "nested deeper than 64",
        ),
        ("laughs", Form::Yaml, laughs, "aliases repeat more than 20000 values"),
        ("keys", Form::Json, format!("{{ {keys} }}"), "more mistakes)"),
        ("keys", Form::Yaml, format!("{{ {keys} }}"), "more mistakes)"),
    ] {
        let said = wrong(form, &text);
        assert!(said.contains(say) && said.len() < 100_000, "{what}: {said:.300}");
    }
}

#[test]
fn only_the_apps_that_are_wanted() {
    let text = "[{ script: 'web.js', env_prod: { A: 1 } }, { script: 'worker.js' }, { script: 'db.js', env_dev: {} }]";
    let names = |profile: Option<&str>, only: Option<&str>| match config::read(
        "f",
        Form::Json,
        text,
        &Wanted { profile, only, travels: true },
        &facts(),
    ) {
        Ok(Loaded { spec, .. }) => spec.apps.iter().map(|app| &*app.name).collect::<Vec<_>>().join(" "),
        Err(mistakes) => show(&mistakes),
    };
    for (only, expected) in [
        (None, "web worker db"),
        (Some("db"), "db"),
        (Some("db,web"), "web db"),
        (Some("web, worker"), "web worker"),
        (Some("web worker"), "web worker"),
    ] {
        assert_eq!(names(None, only), expected, "{only:?}");
    }
    let wrong = [
        names(None, Some("wbe,db,nothing-like-it")),
        names(None, Some(" ,")),
        names(Some("prd"), None),
        names(Some("homolog"), Some("db")),
    ];
    expect![[r#"
        f: --only nothing-like-it: there is no such app; there is db, web, worker
        f: --only wbe: there is no such app, did you mean web?
        f: --only: it names no app
        f: profile prd: no app has env_prd, did you mean prod? there is dev, prod
        f: profile homolog: no app has env_homolog; there is dev, prod
    "#]]
    .assert_eq(&wrong.concat());
    assert_eq!(names(Some("prod"), Some("db")), "db", "the profile is there, if not in this app");
}

/// As with PM2 it is one instance; whoever has mistyped it is told.
#[test]
fn fewer_instances_than_none_are_told() {
    for (instances, said) in [
        ("-3", ""),
        ("-4", "! f: a: instances = -4: there are 4 processors here, so it is 1 instance\n"),
        ("'-100'", "! f: a: instances = -100: there are 4 processors here, so it is 1 instance\n"),
    ] {
        let text = format!("[{{ script: 'a.js', instances: {instances} }}]");
        for form in [Form::Json, Form::Yaml] {
            let plan = outcome(config::read("f", form, &text, &Wanted::default(), &facts()));
            assert!(plan.starts_with(&format!("{said}1 app, 1 instance\n")), "{instances}: {plan}");
        }
    }
}

#[test]
fn a_name_may_carry_the_profile() {
    let text = "[{ script: 'web.js', append_env_to_name: true, env_prod: {} }, { name: 'db', script: 'db.js', after: 'web-prod' }]";
    let wanted = Wanted { profile: Some("prod"), ..Wanted::default() };
    let Loaded { spec, .. } = config::read("f", Form::Json, text, &wanted, &facts()).unwrap();
    assert_eq!(&*spec.apps[0].name, "web-prod");
}

#[test]
fn a_file_of_apps_is_told_from_a_script() {
    for (target, is) in [
        ("ecosystem.config.js", true),
        ("a/b.config.cjs", true),
        ("b.config.mjs", true),
        ("apps.json", true),
        ("apps.yml", true),
        ("apps.yaml", true),
        ("pm3.toml", true),
        ("server.js", false),
        ("config.js", false),
        (".json", false),
        ("web", false),
        ("app.py", false),
    ] {
        assert_eq!(config::is_file_of_apps(target), is, "{target}");
    }
}
