//! Files of apps in JavaScript: what may be exported and how, where a mistake in the script is, and what node may do
//! meanwhile. What the export means is in `forms`.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use expect_test::expect;
use pm3::config::{self, Wanted};
use pm3::sys::capture::{self, Bounds};

use super::Scratch;
use super::forms::outcome;

/// A script's export, evaluated by the node of this machine, if it has one.
fn evaluated(dir: &Scratch, file: &str) -> String {
    let bounds = Bounds { patience: Duration::from_secs(20), most: config::OUTPUT_MAX };
    let node = |words: &[&OsStr], complete: config::Complete<'_>| capture::run("node", words, bounds, complete);
    dir.neutral(&outcome(config::load(Path::new(file), &Wanted::default(), &dir.facts(), &node)))
}

#[test]
fn a_script_is_evaluated_by_node() {
    if super::common::needs("node", 1).is_none() {
        return;
    }
    let dir = Scratch::new();
    let app = "{ apps: [{ script: 'a.js', env: { N: 1 + 1, U: undefined } }] }";
    let good = [
        ("plain.js", format!("module.exports = {app}")),
        ("list.cjs", "exports.apps = [{ script: 'a.js', env: { N: 2 } }]".to_owned()),
        ("module.mjs", format!("export default {app}")),
        ("named.mjs", "export const apps = [{ script: 'a.js', env: { N: 2 } }]".to_owned()),
        ("function.js", format!("module.exports = () => ({app})")),
        ("promise.js", format!("module.exports = Promise.resolve({app})")),
        ("async.mjs", format!("export default async () => {{ await null; return {app} }}")),
        ("transpiled.js", format!("exports.__esModule = true; exports.default = {app}")),
        ("chatty.js", format!("require('fs').writeSync(1, 'x\\ny'); module.exports = {app}")),
        ("lingering.js", format!("setInterval(() => 0, 1000000); module.exports = {app}")),
    ];
    for (name, text) in &good {
        dir.write(name, text);
        let said = evaluated(&dir, name);
        assert!(said.contains("run      node a.js\n  with     N\n") && said.contains("SIGINT"), "{name}: {said}");
    }
    let bad = [
        ("syntax.js", "module.exports = {\n  apps: [{ script: 'a' name: 'b' }]\n}"),
        ("syntax.mjs", "export default {\n  apps: [{ script: 'a' name: 'b' }]\n}"),
        ("ends.js", "module.exports = {\n  apps: ["),
        ("a b#.mjs", "\nexport default nothing"),
        ("nul.js", "module.exports = [{ script: 'a.js', args: ['\\u0000x'] }]"),
        ("throws.js", "module.exports = {\n  apps: nothing.like.it\n}"),
        ("text.js", "throw 'a text\\nin two lines'"),
        ("missing.js", "\nrequire('./not-there')"),
        ("rejects.js", "module.exports = Promise.reject(new Error('no\\nway'))"),
        (
            "late.js",
            "setTimeout(() => { throw new Error('late') }); module.exports = new Promise(() => setInterval(() => 0, 1000000))",
        ),
        ("exits.js", "process.exit(3)"),
        ("dies.js", "process.kill(process.pid, 'SIGKILL')"),
        ("waits.js", "module.exports = new Promise(() => 0)"),
        ("nothing.js", ""),
        ("circle.js", "const a = {}; a.a = a; module.exports = a"),
        ("odd.js", "module.exports = [{ script: () => 1, instances: NaN, args: [10n], env: { A: Symbol() } }]"),
        (
            "wrong.js",
            "module.exports = { apps: [{ script: 'a.js' }, { script: 'b.js', max_memory_restart: '20X', colour: 1 }] }",
        ),
        ("gone.js", "\0"),
    ];
    let mut all = String::new();
    for (name, text) in bad {
        if text != "\0" {
            dir.write(name, text);
        }
        all.push_str(&evaluated(&dir, name));
    }
    expect![[r#"
        syntax.js:2:24: SyntaxError: Unexpected identifier 'name'
        syntax.mjs:2:24: SyntaxError: Unexpected identifier 'name'
        ends.js:2:1: SyntaxError: Unexpected end of input
        a b#.mjs:2:16: ReferenceError: nothing is not defined
        nul.js: [0].args[0]: a: args[0]: it has a NUL byte in it, which the kernel cannot take
        throws.js:2:9: ReferenceError: nothing is not defined
        text.js: it throws a text
        missing.js:2:1: Error: Cannot find module './not-there'
        rejects.js:1:33: Error: no
        late.js:1:26: Error: late
        exits.js: node: it ended with code 3 before it had answered
        dies.js: node: it was ended by SIGKILL before it had answered
        waits.js: node: it ended with code 0 before it had answered
        nothing.js: no app in it; it should be, or export, { apps: [{ script: "…" }] }
        circle.js: TypeError: Converting circular structure to JSON
        odd.js: [0].script: app 1: script = function: expected a path
        odd.js: [0].instances: app 1: instances = NaN: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
        odd.js: [0].args[0]: app 1: args[0]: expected a text or a number
        odd.js: [0].env.A: app 1: env.A: expected a text, a number or a boolean
        wrong.js: apps[1].max_memory_restart: b: max_memory_restart = "20X": expected a size of at least 64K: bytes, or text as "20M", "1.5G", "80%"
        wrong.js: apps[1].colour: b: colour: unknown key; `pm3 check --keys` lists all
        gone.js: cannot be read: no such file or directory
    "#]].assert_eq(&all);
}

/// What the file prints is seen, and taken for nothing else; a large export arrives whole.
#[test]
fn a_script_may_print() {
    if super::common::needs("node", 1).is_none() {
        return;
    }
    let dir = Scratch::new();
    let env = "Object.fromEntries([...Array(5000).keys()].map(n => ['V' + n, 'x'.repeat(100)]))";
    let text =
        format!("console.log('hello'); console.error('there'); module.exports = [{{ script: 'a.js', env: {env} }}]");
    dir.write("a.config.js", text);
    let mut check = std::process::Command::new(super::common::PM3);
    let output = check.args(["check", "a.config.js"]).current_dir(&dir.0).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "hello\nthere\n");
    let plan = String::from_utf8(output.stdout).unwrap();
    assert!(plan.starts_with("1 app, 1 instance\n") && plan.contains("and 4992 more"), "{plan}");
}

#[test]
fn a_script_of_a_package_may_be_a_module() {
    if super::common::needs("node", 1).is_none() {
        return;
    }
    let dir = Scratch::new();
    dir.write("package.json", "{ \"type\": \"module\" }");
    dir.write("ecosystem.config.js", "export default { apps: [{ script: 'a.js' }] }");
    assert!(evaluated(&dir, "ecosystem.config.js").contains("run      node a.js"));
}

#[test]
fn the_sample_is_a_good_file() {
    if super::common::needs("node", 1).is_none() {
        return;
    }
    let dir = Scratch::new();
    dir.write("ecosystem.config.js", config::sample());
    expect![[r#"
        3 apps, 4 instances

        web × 2
          run      node ./server.js
          with     NODE_ENV, PORT
          restart  always, waiting 100ms and ever longer, up to 15s; errored after 16 runs in a row under 1s
          memory   restarted above 300M
          stop     SIGINT, SIGKILL after 8s

        worker
          run      python ./worker.py
          with     PYTHONUNBUFFERED
          after    web
          restart  always; errored after 16 runs in a row under 1s
          stop     SIGINT, SIGKILL after 8s

        report
          run      /bin/sh -c 'echo "the daily report" | cat'
          start    not by itself
          restart  never
          cron     restarted at 0 3 * * *, local time
          stop     SIGINT, SIGKILL after 8s

        order: web, report; then worker
        pm3 ends when nothing runs that will run again; stopping takes 9s at most
    "#]]
    .assert_eq(&evaluated(&dir, "ecosystem.config.js"));
}
