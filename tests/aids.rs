//! What pm3 offers around supervising: a service of the machine's init, completion and manual, a text for bug reports.
//! They are tried with the programs that they are for, where those are there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use common::dir::Dir;
use common::ns::Ns;
use common::tty::Terminal;
use common::world::World;
use common::{PM3, needs};
use pm3::supervisor::event::End;

/// Runs pm3 as this user, with nothing of pm3's in the environment.
fn pm3(words: &[&str]) -> Output {
    let mut command = Command::new(PM3);
    for name in ["PM3_HOME", "PM3_CONFIG", "SUDO_USER"] {
        command.env_remove(name);
    }
    command.args(words).env("PATH", "/usr/bin:/bin").output().unwrap()
}

fn out(words: &[&str]) -> String {
    let output = pm3(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A shell script, run as root of a machine of its own, with an empty /etc and /run. `systemctl` there notes what it is
/// told, and fails where it is told of `broken`. Returns its lines.
fn on_a_machine(settings: &[&str], script: &str) -> Vec<String> {
    let bin = Dir::new();
    let systemctl = "#!/bin/sh\necho \"systemctl $*\"\ncase $* in *broken*) echo 'no way' >&2; exit 5;; esac\n";
    for name in ["systemctl", "rc-update"] {
        let file = bin.file(name, &systemctl.replace("systemctl $*", &format!("{name} $*")));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let notes = format!("exec 2>&1; pm3() {{ '{PM3}' \"$@\"; echo \"exit $?\"; }}\n");
    let users = "printf 'root:x:0:0::/root:/bin/sh\\nann:x:1000:1000::/home/ann:/bin/sh\\n' > /etc/passwd\n";
    let mut ns = Ns::second().with("hide:/etc").with("hide:/run").without("PM3_HOME").without("SUDO_USER");
    for setting in settings {
        ns = ns.with(setting);
    }
    let mut shell = ns.env("PATH", &format!("{}:/usr/bin:/bin", bin.path())).start(&[
        "/bin/sh",
        "-c",
        &[&notes, users, script].concat(),
    ]);
    let lines = shell.rest();
    assert_eq!(shell.end(), End::Code(0), "{lines:#?}");
    lines.into_iter().map(|line| line.replace(bin.path(), "BIN").replace(PM3, "PM3")).collect()
}

#[test]
fn a_service_is_written_and_enabled_and_taken_back() {
    let lines = on_a_machine(
        &[],
        "mkdir -p /run/systemd/system /etc/systemd/system
         umask 077
         pm3 startup -u ann
         stat -c '%a %n' /etc/systemd/system/*
         grep -E '^(User|ExecStart|Environment)=' /etc/systemd/system/pm3-ann.service
         pm3 startup -u ann
         pm3 unstartup -u ann
         ls /etc/systemd/system | wc -l
         pm3 unstartup -u ann",
    );
    let expected = [
        "[PM3] Wrote /etc/systemd/system/pm3-ann.service",
        "[PM3] Ran systemctl daemon-reload",
        "[PM3] Ran systemctl enable pm3-ann",
        "[PM3] pm3 starts with this machine from now on, as ann, with what `pm3 save` saved",
        "[PM3] To start it now, where none runs yet: systemctl start pm3-ann",
        "[PM3] To undo this: pm3 unstartup systemd -u ann",
        "exit 0",
        "644 /etc/systemd/system/pm3-ann.service",
        "User=ann",
        "Environment=\"HOME=/home/ann\"",
        "Environment=\"PATH=BIN:/usr/bin:/bin\"",
        "ExecStart=\"PM3\" resurrect --no-daemon",
        "[PM3] /etc/systemd/system/pm3-ann.service is there already",
        "[PM3] Ran systemctl daemon-reload",
        "[PM3] Ran systemctl enable pm3-ann",
        "[PM3] pm3 starts with this machine from now on, as ann, with what `pm3 save` saved",
        "[PM3] To start it now, where none runs yet: systemctl start pm3-ann",
        "[PM3] To undo this: pm3 unstartup systemd -u ann",
        "exit 0",
        "[PM3] Ran systemctl disable pm3-ann",
        "[PM3] Removed /etc/systemd/system/pm3-ann.service",
        "[PM3] Ran systemctl daemon-reload",
        "[PM3] pm3 does not start with this machine any more; what runs now goes on",
        "exit 0",
        "0",
        "[PM3][ERROR] /etc/systemd/system/pm3-ann.service: there is no such file; pm3 was not started with this machine by that \
         name; is it another --service-name or -u?",
        "exit 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn openrc_gets_an_executable_script_that_a_shell_can_read() {
    let lines = on_a_machine(
        &[],
        "mkdir -p /run/openrc /etc/init.d
         pm3 startup -u ann --service-name apps
         stat -c '%a %n' /etc/init.d/*
         sh -n /etc/init.d/apps && echo readable
         pm3 unstartup -u ann --service-name apps",
    );
    for line in [
        "[PM3] Wrote /etc/init.d/apps",
        "[PM3] Ran rc-update add apps default",
        "[PM3] To undo this: pm3 unstartup openrc -u ann --service-name apps",
        "755 /etc/init.d/apps",
        "readable",
        "[PM3] Ran rc-update del apps default",
        "[PM3] Removed /etc/init.d/apps",
    ] {
        assert!(lines.iter().any(|own| own == line), "{line}: {lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| *line == "exit 0").count(), 2, "{lines:#?}");
}

#[test]
fn what_goes_wrong_is_told_with_what_to_do() {
    let lines = on_a_machine(
        &[],
        "pm3 startup
         pm3 startup systemd
         mkdir -p /etc/systemd/system
         pm3 startup systemd --service-name broken
         pm3 startup systemd --service-name ../x
         pm3 startup systemd -u nobody-here
         pm3 startup systemd --hp home
         pm3 startup launchd",
    );
    let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.starts_with("exit")).collect();
    let starts = [
        "[PM3][ERROR] neither systemd nor OpenRC runs this machine",
        "[PM3][ERROR] /etc/systemd/system/pm3-root.service: cannot write it: no such file or directory",
        "[PM3][ERROR] systemctl enable broken: no way; the file stays",
        "[PM3][ERROR] --service-name ../x: expected",
        "[PM3][ERROR] -u nobody-here: no such user in /etc/passwd",
        "[PM3][ERROR] --hp home: expected an absolute path",
        "[PM3][ERROR] invalid value 'launchd'",
    ];
    let told: Vec<&&str> = lines.iter().filter(|line| line.starts_with("[PM3][ERROR]")).collect();
    assert_eq!(told.len(), starts.len(), "{lines:#?}");
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn who_is_not_root_gets_the_command_for_root() {
    let lines = on_a_machine(&["uid:1000"], "mkdir -p /run/systemd/system; pm3 startup; ls /etc");
    assert_eq!(
        lines,
        [
            "[PM3] Only root may do that. Copy and run this command:",
            "sudo env PATH=BIN:/usr/bin:/bin PM3 startup systemd -u ann --hp /home/ann",
            "exit 77",
            "passwd",
        ]
    );
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let text = out(&["startup", "systemd", "--dry-run"]);
    let (unit, commands) = text.split_once("\n# then:\n").unwrap();
    assert_eq!(commands.lines().next(), Some("systemctl daemon-reload"));
    let Some(analyze) = needs("systemd-analyze", 1) else { return };
    let dir = Dir::new();
    let file = dir.file("pm3.service", unit);
    let verified = Command::new(analyze).args(["verify", "--man=no", &file]).output().unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    // It tells of every unit of this machine that it came by.
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("pm3")).collect();
    assert_eq!(about_ours, [] as [&str; 0]);
    assert!(verified.status.success() || !said.is_empty(), "{said}");
}

#[test]
fn bash_completes_at_the_press_of_tab() {
    let Some(bash) = needs("bash", 1) else { return };
    let dir = Dir::new();
    let script = dir.file("pm3.bash", &out(&["completion", "bash"]));
    let (mut terminal, slave) = Terminal::open();
    let shell = [bash.to_str().unwrap(), "--norc", "--noprofile", "-i"];
    let _shell = Ns::second().terminal(slave).env("TERM", "dumb").env("INPUTRC", "/dev/null").start(&shell);
    // What is typed goes through the completion of `pm3`, and is shown in place of being done.
    terminal.press(&format!("PS1=; source {script}; pm3() {{ echo \"typed $*\"; }}; echo ready\n"));
    while !terminal.line().ends_with("ready") {}
    let mut completes = |keys: &str, to: &str| {
        terminal.press(&format!("{keys}\n"));
        let expected = format!("typed {to}");
        while !terminal.line().ends_with(&expected) {}
    };
    completes("pm3 sto\t", "stop");
    completes("pm3 completion f\t", "completion fish");
    completes("pm3 list --js\t", "list --json");
    terminal.press("pm3 st\t\t");
    let mut awaited = vec!["start", "startup", "status", "stop"];
    while !awaited.is_empty() {
        let line = terminal.line();
        awaited.retain(|verb| line.split_whitespace().all(|word| word != *verb));
    }
}

/// What an interactive shell begins with: two apps of three instances run, and `pm3` shows what is typed in place of doing
/// it. `listens` makes the shell say `ready` whenever it waits for keys.
fn set_up(dir: &Dir, shell: &str, listens: &str) -> String {
    dir.file("app.sh", "exec sleep 1000");
    dir.file("completion", &out(&["completion", shell]));
    std::fs::create_dir(dir.at("bin")).unwrap();
    std::os::unix::fs::symlink(PM3, dir.at("bin/pm3")).unwrap();
    let (path, home) = (dir.path(), dir.at("home"));
    format!(
        "PS1=; cd {path}; export PATH={path}/bin:$PATH PM3_HOME={home}\n\
         pm3 start app.sh --name web -i 2 --silent && pm3 start app.sh --name worker --silent || echo no apps\n\
         source ./completion; pm3() {{ echo \"typed $*.\"; }}; {listens}\n"
    )
}

/// Types into a shell. Each line becomes another, and what it does says that.
fn completes(dir: &Dir, shell: &[&str], cases: &[(&str, &str)]) {
    let (mut terminal, slave) = Terminal::open();
    let ns = Ns::second().terminal(slave).without("DYNO").env("TERM", "dumb").env("INPUTRC", "/dev/null");
    let _shell = ns.env("LC_ALL", "C.UTF-8").env("ZDOTDIR", dir.path()).start(shell);
    for (keys, to) in cases {
        while !terminal.line().contains("ready") {}
        terminal.press(&format!("{keys}\n"));
        while !terminal.line().trim_end().ends_with(to) {}
    }
}

/// `web` is there twice, and so is `app.sh`, as a file of this name. At the end there is no supervisor, and none comes.
const CASES: [(&str, &str); 12] = [
    ("pm3 stop we\t", "typed stop web."),
    ("pm3 logs --lines 3 wo\t", "typed logs --lines 3 worker."),
    ("pm3 describe we\two\t", "typed describe web worker."),
    ("pm3 scale wo\t2", "typed scale worker 2."),
    ("pm3 restart ap\t", "typed restart app.sh."),
    ("pm3 show ap\t", "typed show ap."),
    ("pm3 start x --name we\t", "typed start x --name we."),
    ("pm3 restart web --upd\t", "typed restart web --update-env."),
    ("command pm3 kill", "PM3 Daemon Stopped"),
    ("pm3 stop we\t", "typed stop we."),
    ("pm3 start ap\t", "typed start app.sh."),
    ("command pm3 ping -s 2>&1 | cut -c-38", "[PM3][ERROR] no pm3 is running here: n"),
];

#[test]
fn bash_completes_the_names_of_apps() {
    let Some(bash) = needs("bash", 1) else { return };
    let dir = Dir::new();
    let rc = dir.file("rc", &set_up(&dir, "bash", "PROMPT_COMMAND='echo ready'"));
    completes(&dir, &[bash.to_str().unwrap(), "--noprofile", "--rcfile", &rc, "-i"], &CASES);
}

#[test]
fn zsh_completes_the_names_of_apps() {
    let Some(zsh) = needs("zsh", 1) else { return };
    let dir = Dir::new();
    let set_up = set_up(&dir, "zsh", "zle-line-init() { print ready }; zle -N zle-line-init");
    dir.file(".zshrc", &format!("unsetopt beep; autoload -U compinit; compinit -D -u\n{set_up}"));
    completes(&dir, &[zsh.to_str().unwrap(), "-d", "-i"], &CASES);
}

#[test]
fn fish_completes_the_names_of_apps() {
    let Some(fish) = needs("fish", 1) else { return };
    let world = World::bare();
    world.file("app.sh", "exec sleep 1000");
    world.pm3("start app.sh --name web -i 2").ok();
    world.pm3("start app.sh --name worker").ok();
    let script = world.file("completion", &out(&["completion", "fish"]));
    let offered = |line: &str| {
        let line = format!("source {script}; complete -C '{line}'");
        let said = world.run(&[fish.to_str().unwrap(), "--no-config", "-c", &line]).ok();
        assert_eq!(said.err, "", "{said:#?}");
        said.out
    };
    for line in ["pm3 stop we", "pm3 describe worker we", "pm3 restart we"] {
        assert_eq!(offered(line), "web\tApp\n", "{line}");
    }
    assert_eq!(offered("pm3 restart ap"), "app.sh\n");
    assert_eq!(offered("pm3 show ap"), "");
    world.pm3("kill").ok();
    assert_eq!(offered("pm3 stop we"), "");
}

#[test]
fn the_other_shells_can_read_their_scripts() {
    for (shell, flag) in [("zsh", "-n"), ("fish", "--no-execute")] {
        let script = out(&["completion", shell]);
        assert!(script.contains("startup") && script.contains("Supervise the apps of a file"), "{shell}");
        let Some(program) = needs(shell, 1) else { continue };
        let dir = Dir::new();
        let file = dir.file("script", &script);
        assert!(Command::new(program).args([flag, &file]).status().unwrap().success(), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_pm3_and_for_each_verb() {
    let page = out(&["man"]);
    assert!(page.contains(".TH pm3 1") && page.contains("pm3\\-startup(1)"), "{page}");
    let dir = Dir::new();
    out(&["man", "--dir", dir.path()]);
    for name in ["pm3.1", "pm3-init.1", "pm3-restart.1"] {
        assert!(fs::read_to_string(dir.at(name)).unwrap().contains(".SH NAME"), "{name}");
    }
    let missing = pm3(&["man", "--dir", &dir.at("none")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().ends_with("none: no such file or directory\n"));
}

#[test]
fn a_report_tells_of_the_supervisor_or_that_there_is_none() {
    let world = World::container();
    let report = world.pm3("report").ok();
    let value = |name: &str| {
        let line = report.out.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {}", report.out)).trim().to_owned()
    };
    assert_eq!(value("pid 1 is"), "pm3");
    assert_eq!(value("apps "), "0 apps, 0 instances; 0 restarts");
    assert!(value("private memory").ends_with('K'), "{}", report.out);
    assert!(value("inotify watches").parse::<u64>().is_ok(), "{}", report.out);
    world.end();
    let alone = World::bare();
    alone.pm3("report").ok().says("no pm3 is running here");
}
