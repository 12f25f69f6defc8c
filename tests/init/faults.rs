//! What goes wrong around pm3: starts that fail, a machine that is short of everything, a bare container. Each gives
//! one clear line, and pm3 goes on: the app beside stays online and a client gets its answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use pm3::supervisor::event::{End, Sig};

use crate::common::ns::Ns;
use crate::common::tty::Terminal;
use crate::common::{PATIENCE, PM3, lacking, this_binary};
use crate::world::{Init, World, app, both, entry, has};

/// The app beside, which must not notice anything.
fn web() -> String {
    app("web", &["say:web is up", "pause"], "")
}

/// PID 1 with directories in PATH that anybody may look into.
fn with_usual_path() -> Ns {
    Ns::pid1().env("PATH", "/usr/bin:/bin")
}

/// pm3 is well: the app beside is what it was, and pm3 stops when told to.
fn is_well(mut init: Init, pid: u32) {
    assert_eq!(init.pid(0), pid);
    init.signal(Sig::TERM);
    init.ends(0);
}

fn online(init: &mut Init) -> u32 {
    init.proc.expect("web is up");
    init.pid(0)
}

fn executable(world: &World, name: &str, text: &str, mode: u32) -> String {
    let path = world.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_start_that_fails_is_one_line_and_nobody_elses_trouble() {
    let world = World::new();
    let plain = executable(&world, "plain", "#!/bin/sh\n", 0o644);
    let orphaned = executable(&world, "orphaned", "#!/no/such/sh -e\n", 0o755);
    let text = executable(&world, "text", "hello\n", 0o755);
    let dir = world.path("");
    let log = "error_file = \"/no/such/dir/log\"";
    let cases = [
        ("script", entry("bad", "/no/such/script", &[], ""), "exec /no/such/script: no such file or directory"),
        ("path", entry("bad", "no-such-script", &[], ""), "exec no-such-script: not found in PATH"),
        ("interpreter", entry("bad", "x.js", &[], "interpreter = \"nodee\""), "exec nodee: not found in PATH"),
        ("mode", entry("bad", &plain, &[], ""), &format!("exec {plain}: permission denied")),
        ("directory", entry("bad", &dir, &[], ""), &format!("exec {dir}: is a directory")),
        (
            "hash bang",
            entry("bad", &orphaned, &[], ""),
            &format!("exec {orphaned}: its #! interpreter /no/such/sh does not exist"),
        ),
        (
            "text",
            entry("bad", &text, &[], ""),
            &format!("exec {text}: neither a program of this machine nor a script with a #! line"),
        ),
        ("cwd", app("bad", &[], "cwd = \"/no/such/dir\""), "chdir /no/such/dir: no such file or directory"),
        ("user", app("bad", &[], "user = \"nobody-here\""), "user nobody-here: no such user in /etc/passwd"),
        ("group", app("bad", &[], "group = \"nobody-here\""), "group nobody-here: no such group in /etc/group"),
        ("output", app("bad", &[], log), "stderr /no/such/dir/log: no such file or directory"),
    ];
    let mut faulty = String::new();
    for (name, entry, _) in &cases {
        faulty += &entry.replace("\"bad\"", &format!("{name:?}").replace(' ', "-"));
    }
    world.plan(&(web() + &faulty));
    let mut init = world.boot(with_usual_path());
    let pid = online(&mut init);
    // The last of them may come in any order.
    let mut log: Vec<String> = (0..cases.len()).map(|_| init.told("start failed at")).collect();
    log.sort();
    for (name, _, why) in &cases {
        let line = format!("[pm3] error: {}: errored: start failed at {why}", name.replace(' ', "-"));
        assert_eq!(log.iter().filter(|told| **told == line).count(), 1, "{line} in {log:#?}");
    }
    is_well(init, pid);
}

#[test]
fn the_code_of_a_start_that_fails_is_the_shells() {
    for (script, code) in [("/no/such/script", 127), ("no-such-script", 127), ("/", 126)] {
        let world = World::new();
        world.plan(&entry("job", script, &[], "main = true"));
        world.boot(with_usual_path()).ends(code);
    }
}

#[test]
fn a_program_that_is_being_written_is_tried_again() {
    let world = World::new();
    let script = executable(&world, "run", "#!/bin/sh\necho written\n", 0o755);
    let writer = fs::OpenOptions::new().append(true).open(&script).unwrap();
    world.plan(&(web() + &entry("job", &script, &[], "kind = \"oneshot\"")));
    let mut init = world.boot(Ns::pid1());
    let pid = online(&mut init);
    for wait in [100, 150] {
        init.told(&format!("job: restarting in {wait} ms: start failed at exec {script}: text file busy"));
    }
    drop(writer);
    init.proc.expect("written");
    init.told("job: finished, exit 0");
    is_well(init, pid);
}

/// Where pm3 and the app can be executed by somebody else, who can write here.
fn poor(world: &World) -> (Ns, String) {
    fs::set_permissions(&world.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let link = |from: &str, name: &str| {
        let to = world.path(name);
        fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).unwrap();
        to
    };
    link(PM3, "pm3");
    let app = link(&this_binary(), "app");
    // A uid that hardly anybody has, so that its limits are nobody else's; even a container has so many.
    (Ns::pid1().with(&format!("poor:{}", 60_000 + std::process::id() % 5_000)), app)
}

/// Sets a soft limit of the running pm3, which is PID 1, and says what it was.
fn limit(init: &Init, binary: &str, kind: &str, soft: u64) -> u64 {
    let (code, out, err) = init.proc.inside(&[binary, "app", &format!("restrict:1:{kind}:{soft}")], &[]);
    assert_eq!(code, 0, "{err:?}");
    out[0].strip_prefix("was ").unwrap().parse().unwrap()
}

#[test]
fn a_fork_that_is_refused_is_tried_again() {
    let world = World::new();
    let (ns, binary) = poor(&world);
    let job = entry("job", &binary, &["app", "say:job", "pause"], "");
    world.plan(&(web().replace(&this_binary(), &binary) + &job));
    let mut init = world.boot(ns);
    init.lines(2);
    let pid = init.pid(0);
    let before = limit(&init, &binary, "nproc", 1);
    init.signal_inside(init.pid(1), Sig::KILL);
    for wait in [100, 150] {
        init.told(&format!("job: restarting in {wait} ms: start failed at fork: resource temporarily unavailable"));
    }
    // Reading the file needs a fork too.
    init.signal(Sig::HUP);
    init.told("cannot start a child to read the file: resource temporarily unavailable; nothing was changed");
    assert_eq!(init.row(1)["status"], "waiting restart");
    limit(&init, &binary, "nproc", before);
    init.proc.expect("job");
    is_well(init, pid);
}

#[test]
fn a_full_table_of_pids_is_waited_out() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release.split(['.', '-']).take(2).map(|part| part.parse().unwrap()).collect();
    if version < vec![6, 14] {
        return lacking("a pid_max of each namespace's own (Linux 6.14)", 1);
    }
    let world = World::new();
    let (ns, binary) = poor(&world);
    let [mut go, mut relief] = ["go", "relief"].map(|name| world.gate(name));
    let [go_on, relieved] = [&go, &relief].map(|gate| format!("gate:{}", gate.path));
    let app = |name: &str, words: &[&str], keys: &str| entry(name, &binary, &[&["app"], words].concat(), keys);
    let shrink = entry("shrink", "/bin/sh", &["-c", "echo 320 > /proc/sys/kernel/pid_max"], "kind = \"oneshot\"");
    let fill = app("fill", &["fill", &relieved, "end", "pause"], "requires = \"shrink\"");
    // Its end lets others start. Its own low pid is no use to them: the kernel goes on above 300.
    let last = app("last", &[&go_on], "kind = \"oneshot\"");
    let late = app("late", &["say:late", "pause"], "instances = 2\nrequires = \"last\"");
    world.plan(&(web().replace(&this_binary(), &binary) + &shrink + &fill + &last + &late));
    let mut init = world.boot(ns);
    assert_eq!(init.lines(2), ["full", "web is up"]);
    go.open();
    for wait in [100, 100, 150, 150] {
        init.told(&format!(": restarting in {wait} ms: start failed at fork: resource temporarily unavailable"));
    }
    // No client can be started in there, but pm3 hears.
    init.signal(Sig::USR1);
    let row = init.told("web: id 0, online");
    let pid: u32 = row.split("pid ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    relief.open();
    assert_eq!(init.lines(2), ["late", "late"]);
    is_well(init, pid);
}

#[test]
fn descriptors_that_run_out_are_waited_out() {
    let world = World::new();
    // So that it leaves no descriptor free when it ends.
    let job = app("job", &["say:job", "pause"], "exec_mode = \"fork\"");
    world.plan(&(web() + &job));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    let (pid, job) = (init.pid(0), init.pid(1));
    // Exactly what pm3 holds now; the last client may not have left yet.
    let open = fs::read_dir(format!("/proc/{}/fd", init.proc.pid)).unwrap().count() as u64;
    let before = limit(&init, &this_binary(), "nofile", open);
    init.signal_inside(job, Sig::KILL);
    for wait in [100, 150] {
        init.told(&format!("job: restarting in {wait} ms: start failed at pipe: too many open files"));
    }
    // One client at a time is let in all the same.
    for _ in 0..5 {
        assert_eq!(init.row(0)["status"], "online");
    }
    limit(&init, &this_binary(), "nofile", before);
    init.proc.expect("job");
    is_well(init, pid);
}

#[test]
fn with_few_descriptors_pm3_works_or_says_why_not() {
    let world = World::new();
    world.plan(&app("job", &["say:up"], "kind = \"oneshot\""));
    let mut ends = Vec::new();
    for limit in 3..20 {
        let mut init = world.boot(Ns::pid1().with(&format!("nofile:{limit}:{limit}")));
        // A start that is refused is tried again for ever.
        let refused = |line: &str| line.contains("start failed at pipe: too many open files");
        let mut log = Vec::new();
        while let Some(line) = init.proc.err().next() {
            log.push(line);
            if refused(log.last().unwrap()) {
                init.signal(Sig::TERM);
                break;
            }
        }
        let end = init.proc.end();
        log.extend(init.proc.err_rest());
        if [End::Code(71), End::Code(78)].contains(&end) {
            has(&log, "too many open files");
        } else {
            assert_eq!(end, End::Code(0), "{limit}: {log:#?}");
        }
        ends.push((limit, end, init.proc.rest()));
    }
    let well = ends.iter().filter(|(_, end, lines)| *end == End::Code(0) && lines.len() == 1).count();
    assert!(well > 2, "{ends:?}");
}

#[test]
fn closed_stdio_changes_nothing() {
    for closed in [&["close:0"][..], &["close:1"], &["close:2"], &["close:0", "close:1", "close:2"]] {
        for hide in [None, Some("hide:/dev")] {
            let world = World::new();
            let log = format!("out_file = {:?}", world.path("log"));
            world.plan(&app("job", &["fds", "exit:7"], &(log + "\nmain = true\nautorestart = false")));
            let ns = closed.iter().copied().chain(hide).fold(Ns::pid1(), Ns::with);
            let mut init = world.boot(ns);
            assert_eq!(init.proc.end(), End::Code(7), "{closed:?} {hide:?}");
            // Nothing of pm3's own landed where the app's streams are.
            assert_eq!(world.read("log"), "fds 0 1 2\n", "{closed:?} {hide:?}");
        }
    }
}

#[test]
fn a_bare_container_is_enough() {
    // What is missing; whether a client finds pm3 by itself.
    for (settings, found) in [
        (&["readonly"][..], true),
        (&["uid:12345"], true),
        (&["readonly", "uid:12345"], true),
        (&["hide:/proc"], true),
        (&["hide:/dev"], true),
        (&["hide:/proc", "hide:/dev"], true),
    ] {
        for ns in both() {
            let world = World::new();
            let mut gate = world.gate("gate");
            let crash = app("job", &["say:job", &format!("gate:{}", gate.path), "exit:1"], "");
            world.plan(&(web() + &crash));
            let ns = settings.iter().copied().fold(ns, Ns::with).without("HOME");
            let pid1 = ns.is_pid1();
            let mut init = world.boot(ns);
            init.lines(2);
            gate.open();
            init.told("job: restarting: exit 1");
            init.proc.expect("job");
            // With a read-only root there is no place but the abstract name, which only PID 1 has.
            if found && (pid1 || !settings.contains(&"readonly")) {
                assert_eq!(init.row(0)["status"], "online", "{settings:?}");
            } else {
                has(&init.proc.err().taken, "control.sock: lock file: read-only file system");
            }
            init.signal(Sig::TERM);
            init.ends(0);
        }
    }
}

#[test]
fn without_proc_what_is_left_ends_with_pm3() {
    let world = World::new();
    let mut holders = world.holders("holders");
    let hold = format!("hold:{}", world.path("holders"));
    let leave = ["orphan", "[", "deaf", &hold, "say:left", "pause", "]", "pause"];
    world.plan(&("[pm3]\nstop_budget = \"300ms\"\n".to_owned() + &app("web", &leave, "")));
    let mut init = world.boot(Ns::pid1().with("hide:/proc"));
    init.proc.expect("left");
    init.signal(Sig::TERM);
    init.ends(0);
    assert_eq!(holders.rest(), ["held"]);
}

#[test]
fn output_to_nowhere_needs_a_nowhere() {
    let world = World::new();
    world.plan(&(web() + &app("quiet", &["pause"], "log_mode = \"none\"")));
    let mut init = world.boot(Ns::pid1().with("hide:/dev"));
    let pid = online(&mut init);
    init.told("quiet: errored: start failed at stdout /dev/null: no such file or directory");
    is_well(init, pid);
}

#[test]
fn a_reader_of_the_log_who_does_not_read_holds_nobody_up() {
    // Without /proc pm3 has no description of its own of what it was given, and asks for room before each line.
    for ns in [Ns::pid1(), Ns::pid1().with("hide:/proc")] {
        nobody_reads_the_log(ns);
    }
}

fn nobody_reads_the_log(ns: Ns) {
    let world = World::new();
    let mut gate = world.gate("gate");
    let crash = app("job", &["say:job", "exit:1"], "min_uptime = 0");
    let wait = app("wait", &[&format!("gate:{}", gate.path), "say:told"], "kind = \"oneshot\"");
    world.plan(&(crash + &wait));
    let mut init = world.boot(ns);
    init.proc.err().shrink();
    for _ in 0..300 {
        init.proc.expect("job");
    }
    // The log is full; a client and the others are served as ever.
    init.does(&["ping"]);
    gate.open();
    while init.proc.line() != "told" {}
    // Once it is read, it tells what is missing.
    init.told("lines were lost, stderr did not take them");
    init.stop(0);
}

#[test]
fn a_terminal_that_is_stopped_holds_nobody_up() {
    let world = World::new();
    world.plan(&app("job", &["exit:1"], "min_uptime = 0\nlog_mode = \"none\""));
    let (mut terminal, slave) = Terminal::open();
    let init = world.boot(Ns::pid1().terminal(slave));
    terminal.screen.until("restarting");
    // ^S, as somebody does who wants to read in peace.
    terminal.press("\x13");
    let begun = Instant::now();
    let restarts = || init.row(0)["restarts"].as_u64().unwrap();
    let before = restarts();
    // More than the terminal holds that nobody looks at.
    while restarts() < before + 1_000 {
        assert!(begun.elapsed() < PATIENCE, "{} restarts", restarts() - before);
    }
    terminal.press("\x11");
    terminal.screen.until("[pm3] warn: ");
    terminal.screen.until("lines were lost, stderr did not take them");
    init.signal(Sig::TERM);
    terminal.screen.until("exit 0: SIGTERM");
}

#[test]
fn a_log_that_nobody_can_read_any_more_is_no_error() {
    let world = World::new();
    let mut gate = world.gate("gate");
    world.plan(&(web() + &app("job", &["say:job", &format!("gate:{}", gate.path), "exit:1"], "")));
    let mut init = world.boot(Ns::pid1());
    init.lines(2);
    init.proc.close_err();
    gate.open();
    init.proc.expect("job");
    assert_eq!(init.row(0)["restarts"], 0);
    init.signal(Sig::TERM);
    assert_eq!(init.proc.end(), End::Code(0));
}

#[test]
fn how_much_pm3_says_is_chosen() {
    for variable in ["PM3_LOG", "RUST_LOG"] {
        let world = World::new();
        world.plan(&("[pm3]\nlog_level = \"info\"\n".to_owned() + &app("job", &["exit:3"], "kind = \"oneshot\"")));
        let log = world.boot(Ns::pid1().env(variable, "error")).ends(3);
        assert_eq!(log, ["[pm3] error: job: errored: exit 3"]);
        world.plan(&("[pm3]\nlog_level = \"off\"\n".to_owned() + &app("job", &["exit:3"], "kind = \"oneshot\"")));
        assert_eq!(world.boot(Ns::pid1()).ends(3), [""; 0]);
    }
}

#[test]
fn a_file_that_does_not_check_starts_nothing() {
    for (text, told) in [
        ("[[apps]]\nscript = 7\nfoo = 1\n", "foo: unknown key"),
        ("nonsense", "pm3.toml:6:9: key with no value, expected `=`"),
        ("", "no app in it; add [[apps]]"),
    ] {
        let world = World::new();
        let good = if text.is_empty() { String::new() } else { app("web", &["say:started"], "") };
        world.plan(&(good + text));
        let mut init = world.boot(Ns::pid1());
        let log = init.ends(78);
        has(&log, told);
        assert_eq!(init.proc.rest(), [""; 0]);
    }
    let world = World::new();
    has(&world.boot(Ns::pid1()).ends(78), "cannot be read: no such file or directory");
}

#[test]
fn a_machine_that_refuses_the_first_fork_is_not_taken_for_a_bad_file() {
    let world = World::new();
    world.plan(&web());
    let log = world.boot(Ns::pid1().with("refuse:clone")).ends(71);
    assert_eq!(log, ["[pm3] error: cannot start a child to read the file: resource temporarily unavailable"]);
}

#[test]
fn a_file_that_cannot_be_read_in_time_is_not_taken_for_a_bad_one() {
    let world = World::new();
    let fifo = world.fifo("slow");
    world.plan(&app("web", &["say:up", "pause"], &format!("env_file = {:?}", world.path("slow"))));
    let mut init = world.boot(Ns::pid1());
    let _held = fifo.opened();
    assert_eq!(init.ends(71), ["[pm3] error: reading the file took longer than 5 s"]);
}

#[test]
fn bare_pm3_as_pid_1_looks_for_its_file() {
    let world = World::new();
    world.plan(&app("job", &["say:found", "exit:3"], "main = true\nautorestart = false"));
    let mut named = Ns::pid1().env("PM3_CONFIG", &world.path("pm3.toml")).start(&[PM3]);
    named.expect("found");
    assert_eq!(named.end(), End::Code(3));
    // Not PID 1, it has something to say to a person.
    let mut asked = Ns::second().env("PM3_CONFIG", &world.path("pm3.toml")).start(&[PM3]);
    assert_eq!(asked.end(), End::Code(64));
    let sh = format!("cd {} && exec {PM3}", world.path(""));
    let mut here = Ns::pid1().without("PM3_CONFIG").start(&["/bin/sh", "-c", &sh]);
    here.expect("found");
    assert_eq!(here.end(), End::Code(3));
}

#[test]
fn signals_that_mean_nothing_change_nothing() {
    let world = World::new();
    world.plan(&web());
    let mut init = world.boot(Ns::pid1());
    let pid = online(&mut init);
    let ending = [Sig::HUP, Sig::INT, Sig::QUIT, Sig::KILL, Sig::USR1, Sig::TERM, Sig::STOP, Sig::PWR];
    for sig in (1..=64).map(Sig).filter(|sig| !ending.contains(sig)).cycle().take(2000) {
        init.signal(sig);
    }
    is_well(init, pid);
}
