//! `pm3 init` as a container: the file is mounted as /etc/pm3.toml, and the image's entry point finds it by itself.

use std::process::Stdio;

use super::podman::{Container, IMAGE, Rig, rig, text};

/// An `[[apps]]` entry that runs the app with these words.
fn entry(name: &str, words: &[&str], more: &str) -> String {
    let args = [&["app"], words].concat();
    format!("[[apps]]\nname = \"{name}\"\nscript = \"/app\"\nargs = {args:?}\n{more}\n")
}

/// A container with this file and these options for `podman run`.
fn start<'a>(rig: &'a Rig, options: &[&str], file: &str) -> Container<'a> {
    let path = rig.file(file);
    let mount = format!("{path}:/etc/pm3.toml:ro");
    // Through the logger, as is usual, but without names.
    rig.run(&[&["--volume", &mount, "--env", "PM3_LOG_MODE=raw"], options].concat(), &[])
}

#[test]
fn apps_are_started_in_order_and_stopped_in_reverse() {
    let Some(rig) = rig() else { return };
    let file = [
        entry("first", &["listen", "say:first", "hear:TERM", "say:first ends"], ""),
        entry("second", &["listen", "say:second", "hear:TERM", "say:second ends"], "after = [\"first\"]"),
    ];
    let mut pm3 = start(rig, &[], &file.concat());
    // The second is started once the first is being executed: which of them speaks first is open.
    for line in ["second: waiting for first", "first: online", "second: online"] {
        pm3.told(line);
    }
    let mut said = [pm3.out.next(), pm3.out.next()];
    said.sort();
    assert_eq!(said.map(Option::unwrap), ["first", "second"]);
    pm3.stop(10);
    for line in ["heard SIGTERM", "second ends", "heard SIGTERM", "first ends"] {
        pm3.expect(line);
    }
    assert_eq!(pm3.end(), 0, "{:#?}", pm3.err.taken);
}

#[test]
fn the_container_ends_with_the_main_apps_code() {
    let Some(rig) = rig() else { return };
    let file = [
        entry("web", &["say:web", "line", "exit:7"], "main = true\nautorestart = \"never\""),
        entry("other", &["listen", "say:other", "hear:TERM", "say:other ends"], "after = [\"web\"]\n"),
    ];
    // There is nothing on stdin, so the main app ends as soon as it runs.
    let mut pm3 = start(rig, &[], &file.concat());
    assert_eq!(pm3.end(), 7, "{:#?}", pm3.err.taken);
}

/// The whole stop takes less than the runtime's grace, so that the end is pm3's own and in order.
#[test]
fn what_does_not_stop_is_killed_within_the_budget() {
    let Some(rig) = rig() else { return };
    let file = ["[pm3]\nstop_budget = \"500ms\"\n\n".to_owned(), entry("deaf", &["deaf", "say:ready", "pause"], "")];
    let mut pm3 = start(rig, &[], &file.concat());
    pm3.expect("ready");
    // Podman would kill the container after ten minutes.
    pm3.stop(600);
    pm3.told("SIGKILL");
    assert_eq!(pm3.end(), 137, "{:#?}", pm3.err.taken);
}

/// However the container is locked down, the file is read, and `exec` finds pm3 by its socket.
#[test]
fn a_locked_down_container_can_be_asked_and_told() {
    let Some(rig) = rig() else { return };
    let strict = ["--read-only", "--read-only-tmpfs=false"];
    let all = [&strict[..], &["--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]].concat();
    let file = entry("web", &["listen", "uid", "say:ready", "hear:TERM"], "");
    for (uid, options) in [("uid 0", &strict[..]), ("uid 65534", &["--user", "65534:65534"]), ("uid 1000", &all)] {
        let mut pm3 = start(rig, options, &file);
        pm3.expect(uid);
        pm3.expect("ready");
        let list = pm3.exec(&[], &["/pm3", "list"]);
        let said = text(&list);
        assert!(list.status.success() && said.contains("web") && said.contains("online"), "{options:?}: {said}");
        let restart = pm3.exec(&[], &["/pm3", "restart", "web"]);
        assert!(restart.status.success(), "{options:?}: {}", text(&restart));
        for line in ["heard SIGTERM", uid, "ready"] {
            pm3.expect(line);
        }
        pm3.stop(10);
        pm3.expect("heard SIGTERM");
        assert_eq!(pm3.end(), 0, "{options:?}: {:#?}", pm3.err.taken);
    }
}

/// With the runtime's own filter and capabilities, however few: a second one would find its port taken.
#[test]
fn instances_share_a_port_in_a_locked_down_container() {
    let Some(rig) = rig() else { return };
    let strict = ["--read-only", "--read-only-tmpfs=false"];
    let all = [&strict[..], &["--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]].concat();
    for (options, keys) in [(&strict[..], ""), (&strict, "user = \"1000\"\ngroup = \"1000\""), (&all, "")] {
        let keys = format!("{keys}\ninstances = 2\nmax_restarts = 1");
        let mut pm3 = start(rig, options, &entry("web", &["serve:0.0.0.0:3000"], &keys));
        pm3.expect("serves 0.0.0.0:3000");
        pm3.expect("serves 0.0.0.0:3000");
        let reload = pm3.exec(&[], &["/pm3", "reload", "web"]);
        assert!(reload.status.success(), "{options:?}: {}", text(&reload));
        let show = text(&pm3.exec(&[], &["/pm3", "show", "0"]));
        assert!(show.contains("pm3's, for all of its processes"), "{options:?}: {show}");
        pm3.stop(10);
        assert_eq!(pm3.end(), 0, "{options:?}: {:#?}", pm3.err.taken);
    }
}

/// Another user inside the container may not command root's apps.
#[test]
fn exec_as_another_user_is_refused() {
    let Some(rig) = rig() else { return };
    let mut pm3 = start(rig, &[], &entry("web", &["listen", "say:ready", "hear:TERM"], ""));
    pm3.expect("ready");
    let stop = pm3.exec(&["--user", "1000"], &["/pm3", "stop", "web"]);
    assert!(!stop.status.success(), "{}", text(&stop));
    let list = pm3.exec(&[], &["/pm3", "list"]);
    assert!(text(&list).contains("online"), "{}", text(&list));
}

/// Beside another container in its pid namespace pm3 is not PID 1, and neither signals nor counts the other's processes.
#[test]
fn in_a_shared_pid_namespace_it_ends_only_its_own() {
    let Some(rig) = rig() else { return };
    let file = entry("web", &["listen", "say:ready", "hear:TERM"], "");
    let mut sandbox = start(rig, &[], &file);
    sandbox.expect("ready");
    let mut second = start(rig, &["--pid", &format!("container:{}", sandbox.name)], &file);
    second.expect("ready");
    second.stop(10);
    second.expect("heard SIGTERM");
    assert_eq!(second.end(), 0, "{:#?}", second.err.taken);
    sandbox.stop(10);
    sandbox.expect("heard SIGTERM");
    assert_eq!(sandbox.end(), 0, "{:#?}", sandbox.err.taken);
}

/// The kernel kills what is over the container's limit; that it was the kernel is told.
#[test]
fn an_oom_kill_is_told_from_a_plain_one() {
    let Some(rig) = rig() else { return };
    let file = entry("hungry", &["say:ready", "grow:256"], "autorestart = \"never\"\nexit_on_error = true");
    let mut pm3 = start(rig, &["--memory", "64m", "--memory-swap", "64m"], &file);
    pm3.expect("ready");
    pm3.told("oom");
    assert_eq!(pm3.end(), 137, "{:#?}", pm3.err.taken);
}

/// With no room for another process a start fails, is told with its reason, and comes off once there is room.
#[test]
fn a_full_pid_table_is_waited_out() {
    let Some(rig) = rig() else { return };
    let stay = ["listen", "say:ready", "hear:TERM"];
    let file = [entry("one", &stay, ""), entry("two", &stay, ""), entry("three", &stay, "")];
    // pm3, its logger, and two of the apps.
    let mut pm3 = start(rig, &["--pids-limit", "4"], &file.concat());
    for line in ["ready", "ready"] {
        pm3.expect(line);
    }
    let line = pm3.told("start failed at fork");
    assert!(line.contains("resource temporarily unavailable"), "{line}");
    pm3.allow_pids(20);
    pm3.expect("ready");
    pm3.stop(10);
    assert_eq!(pm3.end(), 0, "{:#?}", pm3.err.taken);
}

/// As the Containerfile advises: the binary copied into an image of one's own.
#[test]
fn the_binary_works_in_an_image_of_ones_own() {
    let Some(rig) = rig() else { return };
    let context = rig.directory();
    let file = entry("web", &["listen", "say:ready", "tally:TERM"], "");
    std::fs::write(context.join("pm3.toml"), file).unwrap();
    let recipe = format!(
        "FROM scratch\nCOPY --from={IMAGE} /pm3 /bin/pm3\nCOPY pm3.toml /etc/pm3/pm3.toml\nCMD [\"/bin/pm3\"]\n"
    );
    std::fs::write(context.join("Containerfile"), recipe).unwrap();
    rig.ask(&["build", "--quiet", "--pull=never", "--tag", "localhost/own", context.to_str().unwrap()]);
    let mut pm3 = rig.start(Stdio::null(), &[], "localhost/own", &[]);
    pm3.expect("ready");
    pm3.stop(10);
    pm3.expect("tally SIGTERM=1");
    assert_eq!(pm3.end(), 0, "{:#?}", pm3.err.taken);
}

/// A file with mistakes starts nothing, and says all of them.
#[test]
fn a_file_with_mistakes_starts_nothing() {
    let Some(rig) = rig() else { return };
    let file = [
        entry("web", &["say:started"], "autorestart = \"allways\""),
        entry("job", &["say:started"], "max_memory_restart = \"20X\""),
    ];
    let mut pm3 = start(rig, &[], &file.concat());
    for wrong in ["allways", "20X"] {
        let line = pm3.told(wrong);
        assert!(line.contains("/etc/pm3.toml:"), "{line}");
    }
    assert_eq!(pm3.end(), 78);
    assert_eq!(pm3.out.taken, Vec::<String>::new());
}
