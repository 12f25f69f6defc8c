//! What is told of a start that fails: the step, on what, and why.

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::sys::resource::{Resource as Rlimit, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::stat::Mode;
use pm3::supervisor::event::{Failure, Limit, Resource, Sig, Stage};
use pm3::sys::reap::{self, Children};
use pm3::sys::socket;
use pm3::sys::spawn::{self, Plan, Stream};

use crate::world::{World, actor, c_string, enter_root, give_up_rights, program, sh};

crate::tests![TESTS:
    names_are_checked_before_the_fork,
    no_descriptor_left,
    no_process_left,
    a_signal_that_is_none,
    a_file_that_cannot_be_opened,
    no_devices,
    a_limit_that_is_none,
    priorities_that_are_refused,
    ids_that_are_refused,
    a_directory_that_is_not_there,
    a_program_that_is_not_there,
    a_program_that_may_not_be_executed,
    a_program_that_cannot_be_executed,
    an_interpreter_that_is_not_there,
    descriptors_that_nobody_asked_for,
];

/// What `Display` says, with the scratch directory's name left out.
fn told(world: &World, failure: &Failure) -> String {
    failure.to_string().replace(world.path("").to_str().unwrap(), "DIR/")
}

fn names_are_checked_before_the_fork() {
    let world = World::new();
    let failure = spawn::c_string("a\0b").unwrap_err();
    assert_eq!(told(&world, &failure), "start failed at prepare a\\0b: holds a NUL character");
    let plan = Plan { user: Some("no-such-user".into()), ..actor(&[]) };
    let failure = spawn::spawn(&plan).unwrap_err();
    assert_eq!(told(&world, &failure), "start failed at user no-such-user: no such user in /etc/passwd");
    let plan = Plan { group: Some("no-such-group".into()), ..actor(&[]) };
    let failure = spawn::spawn(&plan).unwrap_err();
    assert_eq!(told(&world, &failure), "start failed at group no-such-group: no such group in /etc/group");
    assert_eq!(reap::reap(&mut |_, _| {}), Children::None);
}

fn no_descriptor_left() {
    let _world = World::new();
    let (soft, hard) = getrlimit(Rlimit::RLIMIT_NOFILE).unwrap();
    setrlimit(Rlimit::RLIMIT_NOFILE, 3, hard).unwrap();
    let failure = spawn::spawn(&actor(&[])).unwrap_err();
    setrlimit(Rlimit::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(failure.to_string(), "start failed at pipe: too many open files");
    assert!(failure.passing);
}

fn no_process_left() {
    // Root's rights would lift the limit.
    give_up_rights();
    let _world = World::new();
    let (_, hard) = getrlimit(Rlimit::RLIMIT_NPROC).unwrap();
    setrlimit(Rlimit::RLIMIT_NPROC, 0, hard).unwrap();
    let failure = spawn::spawn(&actor(&[])).unwrap_err();
    assert_eq!(failure.to_string(), "start failed at fork: resource temporarily unavailable");
    assert!(failure.passing);
}

fn a_signal_that_is_none() {
    let mut world = World::new();
    let failure = world.fail(&Plan { pdeathsig: Some(Sig(65)), ..actor(&[]) });
    assert_eq!(failure.to_string(), "start failed at setsid pdeathsig: invalid argument");
}

fn a_file_that_cannot_be_opened() {
    let mut world = World::new();
    let dir = world.path("");
    fs::write(dir.join("real"), "").unwrap();
    symlink("real", dir.join("link")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    for (name, why) in [
        ("link", "is a symbolic link, and output goes through none: name the file itself"),
        ("fifo", "no such device or address"),
        ("none/log", "no such file or directory"),
        ("real/log", "not a directory"),
        ("", "is a directory"),
    ] {
        let file = || Stream::File(c_string(&dir.join(name)));
        let failure = world.fail(&Plan { stdout: file(), ..actor(&[]) });
        assert_eq!(told(&world, &failure), format!("start failed at stdout DIR/{name}: {why}"));
        let failure = world.fail(&Plan { stderr: file(), ..actor(&[]) });
        assert_eq!(failure.stage, Stage::Stderr);
    }
    assert_eq!(fs::read_to_string(dir.join("real")).unwrap(), "");
}

/// Without /dev standard input is still at its end; output to nowhere has no place to go.
fn no_devices() {
    let mut world = World::new();
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    enter_root(&empty);
    let failure = world.fail(&program(&["/none"]));
    assert_eq!(failure.stage, Stage::Exec);
    let failure = world.fail(&Plan { stdout: Stream::Null, ..program(&["/none"]) });
    assert_eq!(failure.to_string(), "start failed at stdout /dev/null: no such file or directory");
}

fn a_limit_that_is_none() {
    let mut world = World::new();
    let limits = vec![Limit { resource: Resource::Core, soft: Some(2), hard: Some(1) }];
    let failure = world.fail(&Plan { limits, ..actor(&[]) });
    assert_eq!(failure.to_string(), "start failed at limits core: invalid argument");
}

fn priorities_that_are_refused() {
    let mut world = World::new();
    let failure = world.fail(&Plan { oom_score_adj: Some(1001), ..actor(&[]) });
    assert_eq!(failure.to_string(), "start failed at oom_score_adj /proc/self/oom_score_adj: invalid argument");
    give_up_rights();
    let failure = world.fail(&Plan { nice: Some(-20), ..actor(&[]) });
    assert_eq!(failure.to_string(), "start failed at nice: permission denied");
}

fn ids_that_are_refused() {
    give_up_rights();
    let mut world = World::new();
    let plan = Plan { user: Some("4321".into()), group: Some("4321".into()), ..actor(&[]) };
    assert_eq!(world.fail(&plan).to_string(), "start failed at setuid 4321: operation not permitted");
    // What we are already needs no right.
    let ours = |id: u32| Some(id.to_string().into());
    let plan = Plan { user: ours(nix::unistd::geteuid().as_raw()), ..actor(&["say:well"]) };
    assert_eq!(world.lines(plan), ["well"]);
}

fn a_directory_that_is_not_there() {
    let mut world = World::new();
    let failure = world.fail(&Plan { cwd: Some(c"/no/such/dir".into()), ..actor(&[]) });
    assert_eq!(failure.to_string(), "start failed at chdir /no/such/dir: no such file or directory");
    assert_eq!(failure.exit_code(), 126);
}

fn a_program_that_is_not_there() {
    let mut world = World::new();
    let failure = world.fail(&program(&["/no/such/program"]));
    assert_eq!(failure.to_string(), "start failed at exec /no/such/program: no such file or directory");
    assert_eq!(failure.exit_code(), 127);
    let mut plan = program(&["nope"]);
    plan.candidates = spawn::candidates(b"nope", Some(b"/no/such/dir:/:")).unwrap();
    let failure = world.fail(&plan);
    assert_eq!(failure.to_string(), "start failed at exec nope: not found in PATH");
    assert_eq!(failure.exit_code(), 127);
    plan.candidates.clear();
    assert_eq!(world.fail(&plan).to_string(), "start failed at exec: no such file or directory");
}

fn write_program(path: &Path, text: impl AsRef<[u8]>, mode: u32) -> Plan {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    program(&[path.to_str().unwrap()])
}

fn a_program_that_may_not_be_executed() {
    let mut world = World::new();
    let mut plan = write_program(&world.path("shut"), "#!/bin/sh\n", 0o644);
    let failure = world.fail(&plan);
    assert_eq!(told(&world, &failure), "start failed at exec DIR/shut: permission denied");
    assert_eq!(failure.exit_code(), 126);
    // Remembered, though nothing is found behind it.
    plan.candidates.push(c"/no/such/program".into());
    let failure = world.fail(&plan);
    assert_eq!(told(&world, &failure), "start failed at exec DIR/shut: permission denied");
    let failure = world.fail(&program(&[world.path("").to_str().unwrap()]));
    assert_eq!(told(&world, &failure), "start failed at exec DIR/: is a directory");
}

fn a_program_that_cannot_be_executed() {
    let mut world = World::new();
    let failure = world.fail(&write_program(&world.path("text"), "echo hello\n", 0o755));
    let why = "neither a program of this machine nor a script with a #! line";
    assert_eq!(told(&world, &failure), format!("start failed at exec DIR/text: {why}"));
    let failure = world.fail(&write_program(&world.path("cut"), "\x7fELF", 0o755));
    assert_eq!(told(&world, &failure), "start failed at exec DIR/cut: exec format error");
    let failure = world.fail(&write_program(&world.path("nothing"), "", 0o755));
    assert_eq!(told(&world, &failure), "start failed at exec DIR/nothing: exec format error");
    let mut plan = sh("true");
    plan.argv.push(std::ffi::CString::new(vec![b'x'; 200 << 10]).unwrap());
    assert_eq!(world.fail(&plan).to_string(), "start failed at exec /bin/sh: argument list too long");
}

fn an_interpreter_that_is_not_there() {
    let mut world = World::new();
    let failure = world.fail(&write_program(&world.path("script"), "#!/usr/bin/nope -x\n", 0o755));
    assert_eq!(
        told(&world, &failure),
        "start failed at exec DIR/script: its #! interpreter /usr/bin/nope does not exist"
    );
    assert_eq!(failure.exit_code(), 127);
    // The shell with another loader's name in it, as a program built for another libc has.
    let mut program = fs::read("/bin/sh").unwrap();
    let loader = b"/ld-";
    let at = program.windows(loader.len()).position(|bytes| bytes == loader);
    let Some(at) = at else { crate::alone::not_run("a /bin/sh with a dynamic loader") };
    program[at..at + loader.len()].copy_from_slice(b"/no-");
    let failure = world.fail(&write_program(&world.path("alien"), program, 0o755));
    let told = told(&world, &failure);
    assert!(told.starts_with("start failed at exec DIR/alien: its dynamic loader /"), "{told}");
    assert!(told.ends_with(" does not exist, it was built for another libc"), "{told}");
}

/// Whoever may send a message may send descriptors with it, more than there is room for.
fn descriptors_that_nobody_asked_for() {
    let name = format!("pm3-test-{}", std::process::id());
    let socket = socket::hearing(&name).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (soft, hard) = getrlimit(Rlimit::RLIMIT_NOFILE).unwrap();
    let before = open();
    // Some of them would fit, with one that `open` needs.
    setrlimit(Rlimit::RLIMIT_NOFILE, before as u64 + 9, hard).unwrap();
    for count in [1, 5, 100, 253] {
        let many = vec![sender.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&many)];
        let piece = [IoSlice::new(b"READY=1")];
        sendmsg::<UnixAddr>(sender.as_raw_fd(), &piece, &rights, MsgFlags::empty(), None).unwrap();
        let mut bytes = [0; 100];
        let heard = socket::hear(&socket, &mut bytes).unwrap();
        assert_eq!((&bytes[..heard.count], heard.whole), (&b"READY=1"[..], true));
        let from = heard.from.unwrap();
        assert_eq!((from.pid, from.uid), (std::process::id(), nix::unistd::getuid().as_raw()));
        assert_eq!(open(), before, "{count}");
    }
    setrlimit(Rlimit::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(socket::hear(&socket, &mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}
