//! Apps that say themselves when they are ready, over Node's channel: node itself, and a shell that knows how.

use std::fs;

use pm3::supervisor::event::Sig;

use crate::common::needs;
use crate::common::ns::Ns;
use crate::world::{World, app, both, has};

/// A shell that waits at the gate `go` and then says that it is ready, among other things.
fn speaking(world: &World, keys: &str) -> String {
    let script = format!(
        "echo up; read line < {}; printf '{{\"type\":\"x\"}}\\n\"ready\"\\nmore' >&$$NODE_CHANNEL_FD; exec sleep 1000",
        world.path("go")
    );
    format!("[[apps]]\nname = \"web\"\nscript = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nwait_ready = true\n{keys}\n")
}

#[test]
fn a_shell_says_that_it_is_ready_and_what_waits_for_it_starts() {
    for ns in both() {
        let world = World::new();
        let go = world.fifo("go");
        let late = app("late", &["say:late is up", "pause"], "requires = [\"web\"]");
        world.plan(&(speaking(&world, "listen_timeout = \"1h\"") + &late));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        assert_eq!(init.row(0)["status"], "launching");
        assert_eq!(init.row(1)["status"], "waiting");
        drop(go.opened());
        init.told("web: online");
        init.proc.expect("late is up");
        assert_eq!(init.row(0)["status"], "online");
        init.stop(0);
    }
}

#[test]
fn a_new_process_that_does_not_say_it_in_time_leaves_the_old_one() {
    let world = World::new();
    let go = world.fifo("go");
    world.plan(&speaking(&world, "listen_timeout = \"1h\"\noverlap = true"));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("up");
    drop(go.opened());
    let old = init.online("web");
    // Nobody opens the gate for this one.
    world.plan(&speaking(&world, "listen_timeout = 200\noverlap = true"));
    init.signal(Sig::HUP);
    init.told(&format!("web: the new process failed, pid {old} goes on: not ready after 200 ms"));
    assert_eq!(init.row(0)["reason"], "reload failed: not ready after 200 ms");
    assert_eq!(init.row(0)["pid"], old);
    init.stop(0);
}

#[test]
fn one_that_closes_its_channel_or_floods_it_harms_nobody() {
    let world = World::new();
    // Four megabytes without an end of line, then the word; and one that has nothing to say.
    let flood = "head -c 4194304 /dev/zero >&3; printf '\\n\"ready\"\\n' >&3; exec sleep 1000";
    let sh = |name: &str, script: &str, keys: &str| {
        format!(
            "[[apps]]\nname = \"{name}\"\nscript = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nwait_ready = true\n{keys}\n"
        )
    };
    world.plan(
        &(sh("flood", flood, "listen_timeout = \"1h\"")
            + &sh("mute", "exec 3>&-; exec sleep 1000", "requires = [\"flood\"]\nlisten_timeout = 100")),
    );
    let mut init = world.boot(Ns::pid1());
    init.told("flood: online");
    init.told("mute: not ready after 100 ms, taken for online");
    init.stop(0);
}

#[test]
fn node_says_it_with_process_send() {
    let Some(node) = needs("node", 1) else { return };
    let world = World::new();
    let script = "process.send({ type: 'hello' }); process.send('ready'); \
                  setInterval(() => {}, 1000); process.on('SIGTERM', () => process.exit(0));";
    fs::write(world.path("web.cjs"), script).unwrap();
    let keys = "wait_ready = true\nlisten_timeout = \"1h\"";
    world.plan(&format!(
        "[[apps]]\nname = \"web\"\nscript = {:?}\ninterpreter = {node:?}\n{keys}\n",
        world.path("web.cjs")
    ));
    let mut init = world.boot(Ns::pid1());
    init.told("web: online");
    let shown = init.does(&["show", "web"]);
    has(&shown, "it says so; that may take");
    // An app without the key has no channel.
    world.plan(&format!(
        "[[apps]]\nname = \"web\"\nscript = {:?}\ninterpreter = {node:?}\nrestart_delay = \"1h\"\noverlap = false\n",
        world.path("web.cjs")
    ));
    init.signal(Sig::HUP);
    init.told("web: restarting in 3600000 ms: exit 1");
    init.stop(0);
}
