//! Bad input: one line each, with what to do next, and the documented exit code.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::common::dir::Dir;
use crate::common::{PM3, lacking};
use crate::{APP, bare};

#[test]
fn verbs_of_pm2_that_are_not_here_name_another_way() {
    let world = bare();
    for (line, part) in [
        ("deploy production setup", "use git"),
        ("install pm2-logrotate", "no modules"),
        ("logrotate -u root", "pm3 reload-logs"),
        ("set pm2:x y", "pm3 check --keys"),
        ("link a b", "pm3 list --watch"),
        ("serve . 8080", "web server"),
        ("profile:cpu 10", "profiler"),
        ("trigger app reload", "pm3 send APP TEXT"),
        ("statr app", "did you mean start?"),
    ] {
        let said = world.pm3(line).ends(64);
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
        said.says(part);
    }
    for line in ["monit", "plus", "web", "update", "updatePM2"] {
        let said = world.pm3(line).ends(1).says(&format!("[PM3][ERROR] {line}: not in this release"));
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    }
}

#[test]
fn options_are_strict() {
    let world = bare();
    for (line, code, part) in [
        ("start app.sh -i abc", 64, " -i abc: expected a number"),
        ("start app.sh --instnaces 2", 64, "--instances"),
        ("start app.sh --max-memory-restart 20X", 64, "--max-memory-restart"),
        ("start app.sh --cron never", 64, " --cron never: expected a schedule"),
        ("start app.sh -c never", 64, " -c never: expected a schedule"),
        ("start app.sh --uid", 64, "'--uid <USER>'"),
        ("start app.sh --env=", 64, "'--env <PROFILE>'"),
        ("start app.sh other.sh -n both", 64, " -n: several scripts"),
        ("start app.sh --kill-timeout soon", 64, "--kill-timeout"),
        ("start app.sh --only a", 64, "--only chooses from a file"),
        ("start app.sh --env prod", 64, "--env chooses from a file"),
        ("start app.sh --interpreter nope", 1, "nope"),
        ("start app.sh --user nope", 1, "no user nope"),
        ("start app.sh --cwd /none", 1, "/none"),
        ("start app.sh --log-type yaml", 64, "--log-type"),
        ("start none.sh", 1, "none.sh"),
        ("start none.json", 78, "none.json"),
        ("start app.sh other.sh --name both", 64, "--name"),
        ("start .", 1, "a directory and no script; to watch it: --watch=."),
        ("start /(/", 1, "not a regular expression"),
        ("restart app.sh --name", 64, "--name"),
        ("sendSignal NOPE app", 64, "expected a signal"),
    ] {
        let said = world.pm3(line).ends(code).says(part);
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
        assert!(said.err.starts_with("[PM3][ERROR] "), "{said:#?}");
    }
    assert!(world.processes().is_empty());
}

/// A script's path starts in --cwd, as in PM2; people expect it to start where they are.
#[test]
fn a_script_that_is_here_and_not_in_cwd_is_told() {
    let world = bare();
    fs::create_dir(world.at("sub")).unwrap();
    world.file("bare", "");
    world.file("apps.json", r#"[{"name": "app", "script": "app.sh", "cwd": "sub"}]"#);
    for (line, name, script) in [
        ("start app.sh --cwd sub", "app", "app.sh"),
        ("start apps.json", "app", "app.sh"),
        ("start bare --cwd sub", "bare", "bare"),
    ] {
        let here = world.at(script);
        let said = world.pm3(line).ends(1).says(&format!(
            "[PM3][ERROR] {name}: script not found: {}, as its path starts in cwd; if {here} is meant, name that",
            world.at(&format!("sub/{script}"))
        ));
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    }
    world.pm3("start none.sh --cwd sub").ends(1).says("sub/none.sh\n");
    assert!(world.processes().is_empty());
}

#[test]
fn a_home_that_is_no_absolute_path_is_refused() {
    let mut world = bare();
    world.set("PM3_HOME", "here");
    for line in ["start app.sh", "list", "kill"] {
        let said = world.pm3(line).ends(64).says("[PM3][ERROR] $PM3_HOME is a relative path");
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
    }
    assert!(world.processes().is_empty());
}

#[test]
fn a_supervisor_of_another_version_is_told() {
    use std::io::{Read, Write};
    let world = bare();
    fs::create_dir_all(world.home("home/")).unwrap();
    let listener = UnixListener::bind(world.home("home/control.sock")).unwrap();
    let serving = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = [0; 4096];
            let read = stream.read(&mut line).unwrap();
            assert!(line[..read].ends_with(b"\n"));
            stream.write_all(b"{\"version\":9,\"reply\":{\"pong\":{\"release\":\"9.0\",\"pid\":1}}}\n").unwrap();
        }
    });
    for line in ["list", "start app.sh"] {
        let said = world.pm3(line).ends(76).says("version 9 of the protocol is not spoken here");
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
        said.says("use the client of the release that is running");
    }
    serving.join().unwrap();
}

/// Two users need root, and no namespace of this user's own: so this supervisor is ended by hand.
#[test]
fn a_supervisor_of_another_user_is_told() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root, to be two users", 1);
    }
    let dir = Dir::new();
    for path in [dir.path(), &dir.file("app.sh", APP)] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let pm3 = |uid: u32, words: &[&str]| {
        let mut command = Command::new(PM3);
        command
            .args(words)
            .current_dir(dir.path())
            .env("PM3_HOME", dir.path())
            .env("TELL", "/dev/null")
            .env_remove("DYNO");
        let output = command.uid(uid).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    struct End<F: Fn()>(F);
    impl<F: Fn()> Drop for End<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    assert_eq!(pm3(0, &["start", "app.sh"]).0, Some(0));
    let _end = End(|| assert_eq!(pm3(0, &["kill"]).0, Some(0)));
    let refused = "control.sock: permission denied; ask as root or as the user that pm3 runs as";
    let stranger = "uid 4711 may not use this pm3; ask as root or as the user that pm3 runs as";
    for (mode, part) in [(0o600, refused), (0o666, stranger)] {
        fs::set_permissions(dir.at("control.sock"), Permissions::from_mode(mode)).unwrap();
        for words in [&["list"][..], &["start", "app.sh"], &["kill"]] {
            let (code, err) = pm3(4_711, words);
            assert_eq!((code, err.lines().count()), (Some(77), 1), "{words:?}: {err}");
            assert!(err.contains(part), "{words:?}: {err}");
        }
    }
}
