//! What a program finds when it starts: signals, session, descriptors, limits, ids and streams.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::resource::{Resource as Rlimit, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpgrp, setsid, tcgetpgrp};
use pm3::supervisor::event::{End, Limit, Resource, Sig};
use pm3::sys::fds;
use pm3::sys::reap::Change;
use pm3::sys::signals::Inherited;
use pm3::sys::spawn::{self, KeepFds, Plan, Session, Signals, Stdin, Stream};
use pm3::sys::users::Users;

use crate::alone::not_run;
use crate::world::{STRANGER, World, actor, c_string, program, sh};

crate::tests![TESTS:
    signals_are_clean,
    inherited_signals_are_passed_on_when_asked,
    arguments_and_environment_are_the_plans,
    the_session_is_as_asked,
    the_terminal_follows_only_from_the_foreground,
    supervised_apps_get_three_descriptors,
    run_passes_on_what_it_inherited,
    listen_pid_names_the_child,
    limits_are_set_and_the_inherited_one_restored,
    a_low_limit_of_files_does_not_stop_the_start,
    priorities_are_set,
    privileges_can_be_given_up,
    output_is_appended_to_a_private_file,
    streams_can_be_shared_or_dropped,
    the_umask_is_for_the_program_alone,
    a_directory_is_entered,
    root_becomes_a_user_with_its_groups,
    root_becomes_a_number,
    a_child_follows_its_parent,
    the_first_candidate_that_can_be_executed_is,
];

/// The app's own /proc/self/status.
fn status(world: &mut World, mut plan: Plan, name: &str) -> String {
    let script = sh("while read -r line; do echo \"$line\"; done < /proc/self/status");
    (plan.argv, plan.candidates) = (script.argv, script.candidates);
    let lines = world.lines(plan);
    let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("{name} in {lines:?}")).trim().into()
}

fn signals_are_clean() {
    let mut world = World::new();
    assert_eq!(world.lines(actor(&["signals"])), ["signals blocked=0 ignored=0"]);
}

fn inherited_signals_are_passed_on_when_asked() {
    let mut world = World::new();
    let mut plan = actor(&["signals"]);
    // INT blocked; HUP, 32 and 33 ignored.
    plan.signals = Signals::Inherit(Inherited { mask: 0x2, ignored: 0x1_8000_0001 });
    assert_eq!(world.lines(plan), ["signals blocked=2 ignored=180000001"]);
}

fn arguments_and_environment_are_the_plans() {
    let mut world = World::new();
    let mut plan = program(&["/bin/sh", "-c", "echo \"$0 $1 $2\"; echo \"$COLOUR ${HOME-none}\"", "zero", "", "two"]);
    plan.env = vec![c"COLOUR=red and blue".into()];
    assert_eq!(world.lines(plan), ["zero  two", "red and blue none"]);
}

fn the_session_is_as_asked() {
    let mut world = World::new();
    let (ours, group, session) = (std::process::id(), getpgrp(), nix::unistd::getsid(None).unwrap());
    for (wanted, expected) in [
        (Session::New, "group=PID session=PID".to_owned()),
        (Session::Group { foreground: true }, format!("group=PID session={session}")),
        (Session::Same, format!("group={group} session={session}")),
    ] {
        let mut run = world.start(Plan { session: wanted, ..actor(&["ids"]) });
        let expected = expected.replace("PID", &run.pid.to_string());
        assert_eq!(run.line(), format!("ids pid={} ppid={ours} {expected}", run.pid));
        assert_eq!(world.end(run.pid), End::Code(0));
    }
}

fn the_terminal_follows_only_from_the_foreground() {
    let mut world = World::new();
    setsid().unwrap();
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    // The leader of a session without a terminal gets the first that it opens.
    let terminal = open(ptsname_r(&master).unwrap().as_str(), OFlag::O_RDWR, Mode::empty()).unwrap();
    nix::unistd::tcsetpgrp(&terminal, getpgrp()).unwrap();
    let holder = || tcgetpgrp(&terminal).unwrap();

    let group = |foreground| Plan { session: Session::Group { foreground }, ..actor(&["foreground", "pause"]) };
    let mut modest = world.start(group(false));
    assert_eq!((modest.line().as_str(), holder()), ("foreground no", getpgrp()));
    let mut first = world.start(group(true));
    assert_eq!((first.line().as_str(), holder()), ("foreground yes", pid(first.pid)));
    // We are in the background now.
    let mut second = world.start(group(true));
    assert_eq!((second.line().as_str(), holder()), ("foreground no", pid(first.pid)));
    assert!(pm3::sys::tty::pass_foreground(first.pid, second.pid));
    assert_eq!(holder(), pid(second.pid));
    assert!(pm3::sys::tty::is_controlled());
    // A new session has no terminal.
    assert_eq!(world.lines(actor(&["foreground"])), ["foreground none"]);
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed())
}

/// Opens a file that a child inherits, at a number that nobody else uses.
fn inheritable(number: i32) -> OwnedFd {
    let file = File::open("/").unwrap();
    let fd = fcntl(&file, FcntlArg::F_DUPFD(number)).unwrap();
    assert_eq!(fd, number);
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn supervised_apps_get_three_descriptors() {
    let mut world = World::new();
    let _inherited = [inheritable(50), inheritable(200)];
    assert_eq!(world.lines(actor(&["fds"])), ["fds 0 1 2"]);
}

fn run_passes_on_what_it_inherited() {
    let mut world = World::new();
    // Whoever runs the tests may have left some open.
    fds::close_inherited();
    let _inherited = [inheritable(50), inheritable(200)];
    let _ours = File::open("/").unwrap();
    let plan = Plan { keep_fds: KeepFds::Inherited, ..actor(&["fds"]) };
    assert_eq!(world.lines(plan), ["fds 0 1 2 50 200"]);
}

fn listen_pid_names_the_child() {
    let mut world = World::new();
    let ours = std::process::id();
    let start = |world: &mut World, keep_fds, listen_pid: String| {
        let env = vec![c"A=1".into(), CString::new(format!("LISTEN_PID={listen_pid}")).unwrap(), c"B=2".into()];
        let mut run = world.start(Plan { keep_fds, env, ..sh("echo \"$LISTEN_PID $A $B\"") });
        let line = run.line().replace(&run.pid.to_string(), "CHILD");
        assert_eq!(world.end(run.pid), End::Code(0));
        line
    };
    assert_eq!(start(&mut world, KeepFds::Inherited, ours.to_string()), "CHILD 1 2");
    // Meant for somebody else: sockets that are not there are not promised.
    assert_eq!(start(&mut world, KeepFds::Inherited, "1".into()), "1 1 2");
    assert_eq!(start(&mut world, KeepFds::None, ours.to_string()), format!("{ours} 1 2"));
}

fn limits_are_set_and_the_inherited_one_restored() {
    let mut world = World::new();
    let (_, hard) = getrlimit(Rlimit::RLIMIT_NOFILE).unwrap();
    setrlimit(Rlimit::RLIMIT_NOFILE, 77, hard).unwrap();
    let nofile = fds::raise_limit().unwrap();
    assert_eq!(getrlimit(Rlimit::RLIMIT_NOFILE).unwrap(), (hard, hard));

    let limits = vec![
        Limit { resource: Resource::Core, soft: Some(0), hard: Some(0) },
        Limit { resource: Resource::Stack, soft: Some(1 << 20), hard: Some(2 << 20) },
    ];
    let ulimits = sh("ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Ss; ulimit -Hs");
    let lines = world.lines(Plan { nofile: Some(nofile), limits, ..ulimits });
    assert_eq!(lines, ["77", &hard.to_string(), "0", "1024", "2048"]);

    let limits = vec![Limit { resource: Resource::Nofile, soft: Some(64), hard: Some(65) }];
    let plan = Plan { nofile: Some(nofile), limits, ..sh("ulimit -Sn; ulimit -Hn") };
    assert_eq!(world.lines(plan), ["64", "65"]);
}

fn a_low_limit_of_files_does_not_stop_the_start() {
    let mut world = World::new();
    let limits = vec![Limit { resource: Resource::Nofile, soft: Some(3), hard: Some(40) }];
    // Whatever the program makes of it, it is executed.
    let run = world.start(Plan { limits, ..actor(&["pause"]) });
    let limits = fs::read_to_string(format!("/proc/{}/limits", run.pid)).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(line.split_ascii_whitespace().collect::<Vec<_>>(), ["3", "40", "files"]);
}

fn priorities_are_set() {
    let mut world = World::new();
    let script = "read -r a < /proc/self/oom_score_adj; echo $a; read -r a < /proc/self/stat; echo \"${a##*) }\"";
    let lines = world.lines(Plan { nice: Some(7), oom_score_adj: Some(777), ..sh(script) });
    assert_eq!(lines[0], "777");
    // The 19th field of proc_pid_stat(5) is the nice value, and the first two are cut off.
    assert_eq!(lines[1].split(' ').nth(16), Some("7"), "{lines:?}");
}

fn privileges_can_be_given_up() {
    let mut world = World::new();
    let plan = Plan { no_new_privs: true, ..Plan::default() };
    assert_eq!(status(&mut world, plan, "NoNewPrivs"), "1");
}

fn output_is_appended_to_a_private_file() {
    let mut world = World::new();
    let path = world.path("app.log");
    let plan = |words: &[&str]| Plan { stdout: Stream::File(c_string(&path)), ..actor(words) };
    for words in [&["say:one"][..], &["say:two"]] {
        let child = spawn::spawn(&plan(words)).unwrap();
        assert_eq!(world.end(child.pid), End::Code(0));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    // Appending, and nothing else: the program is not surprised by non-blocking output.
    let shell =
        Plan { stdout: Stream::File(c_string(&path)), ..sh("while read -r l; do echo $l; done </proc/self/fdinfo/1") };
    let child = spawn::spawn(&shell).unwrap();
    assert_eq!(world.end(child.pid), End::Code(0));
    let text = fs::read_to_string(&path).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = OFlag::from_bits_retain(i32::from_str_radix(flags.trim(), 8).unwrap());
    let known = OFlag::O_ACCMODE | OFlag::O_APPEND | OFlag::O_NONBLOCK;
    assert_eq!(flags & known, OFlag::O_WRONLY | OFlag::O_APPEND);
}

fn streams_can_be_shared_or_dropped() {
    let mut world = World::new();
    assert_eq!(world.lines(Plan { stderr: Stream::Stdout, ..sh("echo out; echo err >&2") }), ["out", "err"]);
    assert_eq!(world.lines(Plan { stderr: Stream::Null, ..sh("echo out; echo err >&2") }), ["out"]);
    // Standard input is at its end, or ours.
    assert_eq!(world.lines(actor(&["line"])), ["line end"]);
    let (read, write) = nix::unistd::pipe().unwrap();
    nix::unistd::dup2_stdin(&read).unwrap();
    nix::unistd::write(&write, b"typed\n").unwrap();
    assert_eq!(world.lines(Plan { stdin: Stdin::Inherit, ..actor(&["line"]) }), ["line typed"]);
}

fn the_umask_is_for_the_program_alone() {
    let mut world = World::new();
    let before = nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let path = world.path("log");
    let stderr = Stream::File(c_string(&path));
    assert_eq!(world.lines(Plan { umask: Some(0o077), stderr, ..sh("umask") }), ["0077"]);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
    nix::sys::stat::umask(before);
}

fn a_directory_is_entered() {
    let mut world = World::new();
    let cwd = fs::canonicalize(world.path("")).unwrap();
    let lines = world.lines(Plan { cwd: Some(c_string(&cwd)), ..actor(&["cwd"]) });
    assert_eq!(lines, [format!("cwd {}", cwd.display())]);
}

/// For tests that must become other users.
pub fn need_root() {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let all = map.split_ascii_whitespace().nth(2).is_some_and(|count| count.parse::<u32>().unwrap() > STRANGER);
    if !nix::unistd::geteuid().is_root() || !all {
        not_run("root");
    }
}

fn root_becomes_a_user_with_its_groups() {
    need_root();
    let mut world = World::new();
    let users = Users::read();
    let user = (1..1000).find_map(|uid| users.by_uid(uid)).expect("a user in /etc/passwd that is not root");
    let groups = users.groups_of(&user.name, user.gid);
    let expected = |uid: u32, gid: u32, groups: &[u32]| {
        let same = |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t");
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        (same(uid), same(gid), groups.join(" "))
    };
    let mut found = |user: Option<&str>, group: Option<&str>| {
        let plan = || Plan { user: user.map(Into::into), group: group.map(Into::into), ..Plan::default() };
        let mut status = |name| status(&mut world, plan(), name);
        (status("Uid"), status("Gid"), status("Groups"))
    };
    assert_eq!(found(Some(&user.name), None), expected(user.uid, user.gid, &groups));
    assert_eq!(found(Some(&user.uid.to_string()), None), expected(user.uid, user.gid, &groups));
    let groups = users.groups_of(&user.name, 4321);
    assert_eq!(found(Some(&user.name), Some("4321")), expected(user.uid, 4321, &groups));
    assert_eq!(found(None, Some("4321")), expected(0, 4321, &[]));
}

fn root_becomes_a_number() {
    need_root();
    let mut world = World::new();
    nix::unistd::setgroups(&[1.into(), 2.into()]).unwrap();
    // Files are opened with the app's ids.
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let (user, group): (Option<Box<str>>, _) = (Some("54321".into()), Some("12345".into()));
    let stderr = Stream::File(c_string(&world.path("log")));
    let plan = Plan { user: user.clone(), group: group.clone(), stderr, ..Plan::default() };
    assert_eq!(status(&mut world, plan, "Groups"), "");
    let log = fs::metadata(world.path("log")).unwrap();
    assert_eq!((log.uid(), log.gid()), (54321, 12345));
    let plan = Plan { user, group, ..Plan::default() };
    assert_eq!(status(&mut world, plan, "CapEff"), "0000000000000000");
}

fn a_child_follows_its_parent() {
    let mut world = World::new();
    let parent = crate::alone::part("a_parent_that_dies");
    let mut parent = world.start(Plan { stdin: Stdin::Inherit, ..program(&parent) });
    let child: u32 = parent.line().parse().unwrap();
    assert_eq!(world.end(parent.pid), End::Code(0));
    assert_eq!(world.change(child), Change::Ended(End::Signal(Sig::USR1)));
}

fn the_first_candidate_that_can_be_executed_is() {
    let mut world = World::new();
    let (shut, open) = (world.path("shut"), world.path("open"));
    for (dir, mode) in [(&shut, 0o644), (&open, 0o755)] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("prog"), "#!/bin/sh\necho \"$0\"\n").unwrap();
        fs::set_permissions(dir.join("prog"), fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = format!("/no/such/dir:{}:{}", shut.display(), open.display());
    let mut plan = program(&["prog"]);
    plan.candidates = spawn::candidates(b"prog", Some(path.as_bytes())).unwrap();
    assert_eq!(world.lines(plan), [open.join("prog").display().to_string()]);
}
