//! `pm3 init` on files that are no TOML: JSON and YAML, and JavaScript, which node evaluates in a child of a child.

use pm3::supervisor::event::{End, Sig};

use crate::common::ns::Ns;
use crate::common::{needs, this_binary};
use crate::world::{World, both, has};

/// An app of such a file: it says that it is up, and waits. Its name is a JavaScript expression.
fn idle(name: &str) -> String {
    let program = this_binary();
    format!("{{ name: {name}, script: {program:?}, args: ['app', 'say:up', 'pause'], env: {{ PM3_TEST_ROLE: '1' }} }}")
}

#[test]
fn json_and_yaml_need_nothing_else() {
    for (ns, name, text) in [
        (Ns::pid1(), "apps.json", format!("// The apps.\n{{ apps: [{}, ], }}", idle("'web'"))),
        (Ns::second(), "apps.yml", format!("apps:\n  - {}\n", idle("web"))),
    ] {
        let world = World::new();
        let file = world.write(name, &text);
        let mut init = world.boot_from(ns, &[&file]);
        assert_eq!(init.proc.line(), "up");
        assert_eq!(init.row(0)["name"], "web");
        init.signal(Sig::TERM);
        has(&init.ends(0), "web: stopping with SIGINT");
    }
}

#[test]
fn javascript_is_evaluated_anew_at_each_reading() {
    if needs("node", 1).is_none() {
        return;
    }
    for ns in both() {
        let world = World::new();
        world.write("names.json", "[\"web\"]");
        let apps =
            format!("require('./names.json').map(name => ({}))", idle("name").replace("env:", "pmx: false, env:"));
        let file = world.write("ecosystem.config.js", &format!("module.exports = async () => ({{ apps: {apps} }})"));
        let mut init = world.boot_from(ns, &[&file]);
        assert_eq!(init.proc.line(), "up");
        init.told("passed over, as pm3 has no use for it: pmx");
        world.write("names.json", "[\"web\", \"worker\"]");
        init.signal(Sig::HUP);
        init.told("file read again: 1 new, 0 changed, 0 gone, 1 unchanged");
        assert_eq!(init.proc.line(), "up");
        init.stop(0);
    }
}

#[test]
fn a_script_that_fails_is_told_with_its_line_and_starts_nothing() {
    if needs("node", 1).is_none() {
        return;
    }
    let world = World::new();
    let file = world.write("ecosystem.config.js", "module.exports = {\n  apps: [ nothing ]\n}");
    let mut init = world.boot_from(Ns::pid1(), &[&file]);
    let log = init.ends(78);
    has(&log, &format!("{file}:2:11: ReferenceError: nothing is not defined"));
}

#[test]
fn without_node_it_says_so() {
    let world = World::new();
    let file = world.write("ecosystem.config.js", "module.exports = []");
    let mut init = world.boot_from(Ns::pid1().env("PATH", "/nowhere"), &[&file]);
    has(&init.ends(78), "node: node is not in PATH; install it, or set PATH");
}

/// A file that hangs costs init nothing: it answers, stops at once, and leaves no node behind.
#[test]
fn a_script_that_hangs_holds_nobody() {
    if needs("node", 1).is_none() {
        return;
    }
    for ns in both() {
        let world = World::new();
        let mut held = world.holders("held");
        let hang = "fs.writeSync(fs.openSync(__dirname + '/held', 'w'), 'hangs\\n'); \
                    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)";
        let text = format!(
            "const fs = require('fs'); if (fs.existsSync(__dirname + '/now')) {{ {hang} }} module.exports = [{}]",
            idle("'web'")
        );
        let file = world.write("ecosystem.config.js", &text);
        let mut init = world.boot_from(ns, &[&file]);
        assert_eq!(init.proc.line(), "up");
        world.write("now", "");
        init.signal(Sig::HUP);
        assert_eq!(held.next().as_deref(), Some("hangs"));
        assert_eq!(init.row(0)["name"], "web");
        init.signal(Sig::TERM);
        assert_eq!(init.proc.end(), End::Code(0));
        assert_eq!(held.next(), None);
    }
}
