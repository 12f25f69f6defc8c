//! What an app is given: its environment, its directory, its ids and limits, its output.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use pm3::supervisor::event::Sig;

use crate::common::ns::Ns;
use crate::common::{lacking, this_binary};
use crate::world::{World, app, both, entry};

#[test]
fn an_app_leads_a_session_of_its_own_with_clean_signals_and_files() {
    for ns in both() {
        let world = World::new();
        world.plan(&app("web", &["ids", "signals", "fds", "cwd"], "main = true\nautorestart = false"));
        let ns = ns.with("ignore:HUP").with("block:TERM").with("open:7:/");
        let mut init = world.boot(ns);
        let ids = init.proc.line();
        let pid = ids.split("pid=").nth(1).unwrap().split(' ').next().unwrap();
        assert!(ids.ends_with(&format!("group={pid} session={pid}")), "{ids}");
        init.proc.expect("signals blocked=0 ignored=0");
        init.proc.expect("fds 0 1 2");
        init.proc.expect(&format!("cwd {}", std::env::current_dir().unwrap().display()));
        init.ends(0);
    }
}

#[test]
fn the_environment_is_pm3s_with_the_files_and_the_entrys_over_it() {
    let world = World::new();
    world.write("vars", "# comment\nA=file\nB=\"from the file\"\nexport C=file\n");
    let tell = [
        "env:KEPT",
        "env:A",
        "env:B",
        "env:C",
        "env:D",
        "env:name",
        "env:pm_id",
        "env:NODE_APP_INSTANCE",
        "env:LISTEN_FDS",
    ];
    let keys = format!(
        "env_file = {:?}\nenv = {{ A = \"entry\", D = \"${{KEPT}} ${{NONE:-none}} $$\" }}\n",
        world.path("vars")
    );
    let profile = "env_prod = { C = \"prod\" }\n";
    world.plan(&app("web", &tell, &(keys + profile + "main = true\nautorestart = false")));
    let ns = Ns::pid1().env("KEPT", "kept").env("LISTEN_FDS", "1");
    let mut init = world.boot_with(ns, &["--env", "prod"]);
    for line in [
        "KEPT=kept",
        "A=entry",
        "B=from the file",
        "C=prod",
        "D=kept none $",
        "name=web",
        "pm_id=0",
        "NODE_APP_INSTANCE=0",
        // Meant for pm3.
        "LISTEN_FDS unset",
    ] {
        init.proc.expect(line);
    }
    init.ends(0);
}

#[test]
fn an_app_may_go_without_some_of_the_environment() {
    for (filter, said) in [("['SECRET_', 'TOK']", " kept own"), ("true", "  own"), ("false", "s t kept own")] {
        let world = World::new();
        let tell = "echo \"$$SECRET_A$${TOKEN:+ $$TOKEN} $$PLAIN $$MINE\"";
        let keys = format!("main = true\nautorestart = false\nfilter_env = {filter}\nenv = {{ MINE = 'own' }}\n");
        world.plan(&entry("web", "/bin/sh", &["-c", tell], &keys));
        let ns = Ns::pid1().env("SECRET_A", "s").env("TOKEN", "t").env("PLAIN", "kept");
        let mut init = world.boot(ns);
        assert_eq!(init.proc.line(), said, "{filter}");
        init.ends(0);
    }
}

#[test]
fn instances_know_who_they_are() {
    let world = World::new();
    // One line each: several instances speak at once.
    let tell = |var: &str| {
        let script = format!("echo \"$${var} $$PORT $$pm_id\"; exec \"$$0\" app pause");
        entry("web", "/bin/sh", &["-c", &script, &this_binary()], "")
    };
    world.plan(&(tell("NODE_APP_INSTANCE") + "instances = 3\nincrement_var = \"PORT\"\nenv = { PORT = 3000 }\n"));
    let mut init = world.boot(Ns::pid1());
    assert_eq!(init.lines(3), ["0 3000 0", "1 3001 1", "2 3002 2"]);
    // The same place again, whoever restarts.
    init.signal_inside(init.pid(1), Sig::KILL);
    init.proc.expect("1 3001 1");
    world.plan(&(tell("SLOT") + "instances = 2\ninstance_var = \"SLOT\""));
    init.signal(Sig::HUP);
    assert_eq!(init.lines(2), ["0  0", "1  1"]);
    init.stop(0);
}

#[test]
fn heroku_says_how_many_web_processes_there_are() {
    let world = World::new();
    let tell = |name: &str| app(name, &[&format!("say:{name}"), "pause"], "");
    world.plan(&(tell("web") + &tell("worker")));
    let mut init = world.boot(Ns::pid1().env("WEB_CONCURRENCY", "3"));
    assert_eq!(init.lines(4), ["web", "web", "web", "worker"]);
    init.stop(0);
}

#[test]
fn an_app_starts_where_it_is_told() {
    let world = World::new();
    fs::create_dir(world.dir.join("here")).unwrap();
    world.write("here/run", "#!/bin/sh\nread line < data; echo \"$line $*\"\n");
    fs::set_permissions(world.dir.join("here/run"), fs::Permissions::from_mode(0o755)).unwrap();
    world.write("here/data", "found\n");
    let cwd = format!("cwd = {:?}\nmain = true\nautorestart = false", world.path("here"));
    // A file in the working directory is found before one in PATH.
    world.plan(&entry("web", "run", &["a b", "c"], &cwd));
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("found a b c");
    init.ends(0);
}

#[test]
fn a_command_is_split_or_given_to_a_shell() {
    let world = World::new();
    let command = |name: &str, line: &str, keys: &str| {
        format!("[[apps]]\nname = {name:?}\ncommand = {line:?}\nkind = \"oneshot\"\n{keys}\n")
    };
    world.plan(
        &(command("split", "/bin/sh -c 'echo \"$0 $1\"' one 'two three' | four", "")
            + &command("shell", "echo $((6 * 7)) | { read x; echo shell $x; }", "shell = true\nafter = \"split\"")),
    );
    let mut init = world.boot(Ns::pid1());
    init.proc.expect("one two three");
    init.proc.expect("shell 42");
    init.ends(0);
}

#[test]
fn limits_and_priorities_are_the_entrys() {
    for ns in both() {
        let world = World::new();
        let tell = [
            "limit:open files",
            "limit:core file size",
            "nice",
            "status:Umask",
            "status:NoNewPrivs",
            "file:/proc/self/oom_score_adj",
        ];
        let keys = "main = true\nautorestart = false\nlimits = { nofile = \"100:200\", core = 0 }\nnice = 7\numask = \"027\"\n\
                    no_new_privs = true\noom_score_adj = 321";
        world.plan(&app("web", &tell, keys));
        let mut init = world.boot(ns);
        for line in [
            "open files 100 200",
            "core file size 0 0",
            "nice 7",
            "Umask 0027",
            "NoNewPrivs 1",
            "/proc/self/oom_score_adj: 321",
        ] {
            init.proc.expect(line);
        }
        init.ends(0);
    }
}

#[test]
fn an_app_gets_the_limit_of_open_files_that_pm3_was_given() {
    let world = World::new();
    let keys = "main = true\nautorestart = false";
    world.plan(&app("web", &["limit:open files"], keys));
    let mut init = world.boot(Ns::pid1().with("nofile:300:700"));
    init.proc.expect("open files 300 700");
    init.ends(0);
}

#[test]
fn a_user_is_become_with_its_groups_and_its_home() {
    let world = World::new();
    let tell = ["status:Uid", "status:Gid", "status:Groups", "env:HOME", "env:USER"];
    let once = format!("kind = \"oneshot\"\nuser = \"daemon\"\nlog_file = {:?}\n", world.path("log"));
    let other = "kind = \"oneshot\"\ngroup = 4321\nafter = \"web\"";
    world.plan(&(app("web", &tell, &once) + &app("group", &["status:Uid", "status:Gid"], other)));
    fs::set_permissions(&world.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    if nix::unistd::geteuid().is_root() {
        let mut init = world.boot(Ns::pid1().with("rooted"));
        let (uid, gid) = daemon();
        init.proc.expect(&format!("Uid {}", four(0)));
        init.proc.expect(&format!("Gid {}", four(4321)));
        init.ends(0);
        let told = world.read("log");
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(told[..2], [format!("Uid {}", four(uid)), format!("Gid {}", four(gid))]);
        assert!(told[2].split(' ').any(|group| group == gid.to_string()), "{told:?}");
        assert!(told[3].starts_with("HOME=/") && told[4] == "USER=daemon", "{told:?}");
        // The file was made by the app's ids, not by pm3's.
        assert_eq!(fs::metadata(world.path("log")).unwrap().uid(), uid);
    } else {
        // Who has one uid alone cannot become another, and says so.
        let mut init = world.boot(Ns::pid1());
        init.told("web: errored: start failed at setuid daemon: ");
        init.told("group: errored: start failed at setuid 4321: ");
        init.ends(126);
    }
}

/// The ids of `daemon`, which every Linux has.
fn daemon() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let mut fields = users.lines().find_map(|line| line.strip_prefix("daemon:")).unwrap().split(':').skip(1);
    let mut id = || fields.next().unwrap().parse().unwrap();
    (id(), id())
}

#[test]
fn a_log_is_written_with_the_apps_rights() {
    if !nix::unistd::geteuid().is_root() {
        // There is one uid then, pm3's and the app's.
        return lacking("root", 1);
    }
    let world = World::new();
    let log = format!("user = \"daemon\"\nautorestart = false\nout_file = {:?}\n", world.path("log"));
    world.plan(&app("web", &["say:x"], &log));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    init.told(&format!("web: errored: start failed at stdout {}: permission denied", world.path("log")));
    init.ends(126);
}

#[test]
fn output_is_appended_to_files_and_not_through_links() {
    let world = World::new();
    world.write("out", "before\n");
    let keys = format!(
        "instances = 2\nout_file = {:?}\nerror_file = {:?}\nmerge_logs = true\n",
        world.path("out"),
        world.path("err")
    );
    let job = entry("both", "/bin/sh", &["-c", "echo out; echo err >&2"], &(keys + "autorestart = \"on-failure\""));
    let own = entry(
        "own",
        "/bin/sh",
        &["-c", "echo own; echo twice >&2"],
        &format!("instances = 2\nlog_file = {:?}\nautorestart = \"never\"", world.path("own.log")),
    );
    symlink(world.path("out"), world.dir.join("link")).unwrap();
    let linked = app("linked", &["say:x"], &format!("out_file = {:?}\n", world.path("link")));
    let none = entry(
        "none",
        "/bin/sh",
        &["-c", "echo nowhere; echo nowhere >&2"],
        "log_mode = \"none\"\nautorestart = \"never\"",
    );
    world.plan(&(job + &own + &linked + &none));
    let mut init = world.boot(Ns::pid1());
    let log = init.ends(126);
    let failed = format!("linked: errored: start failed at stdout {}: is a symbolic link", world.path("link"));
    crate::world::has(&log, &failed);
    assert_eq!(world.read("out"), "before\nout\nout\n");
    assert_eq!(world.read("err"), "err\nerr\n");
    for id in [2, 3] {
        assert_eq!(world.read(&format!("own-{id}.log")), "own\ntwice\n");
    }
    assert_eq!(fs::metadata(world.path("err")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(init.proc.rest(), [""; 0]);
    crate::world::has_not(&log, "nowhere");
}

#[test]
fn an_input_is_the_apps_own_under_any_user() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    let world = World::new();
    let open_again = "echo up; while read -r line; do echo \"got $$line\"; done < /dev/stdin";
    let keys = "user = \"65534\"\ngroup = \"65534\"\nstdin = \"pipe\"";
    world.plan(&entry("a", "/bin/sh", &["-c", open_again], keys));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    init.proc.expect("up");
    init.does(&["send", "a", "hello"]);
    init.proc.expect("got hello");
    init.stop(0);
}

#[test]
fn inputs_that_do_not_fit_into_the_table_of_descriptors_are_refused_with_the_number() {
    let world = World::new();
    world.plan(&app("many", &["say:up", "pause"], "instances = 60\nstdin = \"pipe\""));
    let mut init = world.boot(Ns::pid1().with("nofile:64:64"));
    let line = init.told("start failed at prepare: its input would take ");
    assert!(line.ends_with("file descriptors, of 64; raise the limit (ulimit -n), or set stdin = \"null\""), "{line}");
    // The others run, and an operator is answered.
    init.proc.expect("up");
    init.does(&["send", "0", "hello"]);
    init.stop(0);
}
