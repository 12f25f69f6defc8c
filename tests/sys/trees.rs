//! Finding a run's processes, wherever they went, and what they weigh.

use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd};

use pm3::supervisor::event::{End, Sig};
use pm3::sys::kill;
use pm3::sys::proc::{self, Processes, Root};
use pm3::sys::spawn::{Plan, Stdin};

use crate::allocations;
use crate::alone::part;
use crate::common::ns::Ns;
use crate::world::{Run, World, actor, program, readable, sh};

crate::tests![TESTS:
    descendants_are_found_in_any_session,
    orphans_are_known_by_their_mark,
    orphans_of_an_ended_run_are_known_by_their_session,
    a_zombie_is_still_there,
    everything_is_every_descendant,
    private_memory_is_counted,
    shared_memory_is_charged_in_shares,
    strangers_marks_are_read_without_rights,
    pid_1_reaches_everyone,
    without_proc_there_is_the_main_process,
    looking_allocates_nothing,
];

crate::tests![PARTS: looks_as_pid_1, looks_without_proc];

/// Both ways to find children must agree.
fn ways() -> [Processes; 2] {
    [Processes::new(), Processes::scanning()]
}

fn marked(mark: &str, words: &[&str]) -> Plan {
    let mut plan = actor(words);
    plan.env.push(CString::new(format!("PM3_RUN={mark}")).unwrap());
    plan
}

/// The pids in the app's `ids`, in the order of their lines, once it also said `ready`.
fn pids_of<const N: usize>(run: &mut Run) -> [u32; N] {
    let lines: Vec<String> = (0..=N).map(|_| run.line()).collect();
    assert!(lines.iter().any(|line| line == "ready"), "{lines:?}");
    let ids = lines.iter().filter_map(|line| line.strip_prefix("ids pid=")?.split(' ').next()?.parse().ok());
    ids.collect::<Vec<_>>().try_into().unwrap()
}

fn tree(processes: &mut Processes, root: &Root, mains: &[u32]) -> Vec<u32> {
    processes.refresh(|pid| mains.contains(&pid));
    let mut found = vec![];
    processes.tree(root, &mut found);
    found.sort_unstable();
    found
}

fn sorted<const N: usize>(mut pids: [u32; N]) -> Vec<u32> {
    pids.sort_unstable();
    pids.to_vec()
}

fn descendants_are_found_in_any_session() {
    let mut world = World::new();
    let words = ["child", "[", "ids", "child", "[", "ids", "pause", "]", "pause", "]", "say:ready", "pause"];
    let mut run = world.start(marked("1", &words));
    let mut other = world.start(marked("2", &["child", "[", "ids", "pause", "]", "say:ready", "pause"]));
    let [child, grandchild] = pids_of(&mut run);
    let [others] = pids_of(&mut other);
    let mains = [run.pid, other.pid];
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: true, mark: "1" };
        assert_eq!(tree(&mut processes, &root, &mains), sorted([run.pid, child, grandchild]));
        let root = Root { main: other.pid, alive: true, mark: "2" };
        assert_eq!(tree(&mut processes, &root, &mains), sorted([other.pid, others]));
        // The same from below, without looking at all of them.
        let root = Root { main: run.pid, alive: true, mark: "1" };
        assert!([run.pid, child, grandchild].iter().all(|pid| processes.belongs(*pid, &root)));
        assert!(
            [other.pid, others, 0, 1, std::process::id(), u32::MAX].iter().all(|pid| !processes.belongs(*pid, &root))
        );
    }
}

fn orphans_are_known_by_their_mark() {
    let mut world = World::new();
    // The orphan is in a session of its own, with a child in it.
    let words = ["orphan", "[", "ids", "child", "[", "ids", "pause", "]", "pause", "]", "say:ready", "pause"];
    let mut run = world.start(marked("7.a", &words));
    let [orphan, child] = pids_of(&mut run);
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: true, mark: "7.a" };
        assert_eq!(tree(&mut processes, &root, &[run.pid]), sorted([run.pid, orphan, child]));
        let ended = Root { alive: false, ..root };
        assert_eq!(tree(&mut processes, &ended, &[run.pid]), sorted([orphan, child]));
        for mark in ["7", "7.ab", "", "x"] {
            assert_eq!(tree(&mut processes, &Root { mark, ..root }, &[run.pid]), [run.pid]);
            assert!([orphan, child].iter().all(|pid| !processes.belongs(*pid, &Root { mark, ..root })));
        }
        for root in [root, ended] {
            assert!([orphan, child].iter().all(|pid| processes.belongs(*pid, &root)));
        }
    }
}

fn orphans_of_an_ended_run_are_known_by_their_session() {
    let mut world = World::new();
    // Without a mark: a program may have cleared its environment.
    let mut run = world.start(actor(&["child", "[", "ids", "pause", "]", "say:ready", "exit:0"]));
    let [left] = pids_of(&mut run);
    assert_eq!(world.end(run.pid), End::Code(0));
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: false, mark: "1" };
        assert_eq!(tree(&mut processes, &root, &[]), [left]);
        assert!(processes.belongs(left, &root));
    }
    kill::process(left, Sig::KILL);
    assert_eq!(world.end(left), End::Signal(Sig::KILL));
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: false, mark: "1" };
        assert!(tree(&mut processes, &root, &[]).is_empty());
    }
}

fn a_zombie_is_still_there() {
    let mut world = World::new();
    let mut run = world.start(marked("1", &["child", "[", "ids", "]", "say:ready", "pause"]));
    let [zombie] = pids_of(&mut run);
    wait_for_end(zombie);
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: true, mark: "1" };
        assert_eq!(tree(&mut processes, &root, &[run.pid]), sorted([run.pid, zombie]));
    }
    assert_eq!(proc::proportional(&[zombie]), Some(0));
}

/// Waits until a process that is not our child has ended.
fn wait_for_end(pid: u32) {
    // SAFETY: pidfd_open takes numbers.
    let fd = i32::try_from(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).unwrap();
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    readable(&unsafe { OwnedFd::from_raw_fd(fd) });
}

fn everything_is_every_descendant() {
    let mut world = World::new();
    let words = ["orphan", "[", "ids", "child", "[", "ids", "pause", "]", "pause", "]", "say:ready", "pause"];
    let mut run = world.start(actor(&words));
    let [orphan, child] = pids_of(&mut run);
    for mut processes in ways() {
        let mut found = vec![];
        processes.everything(&mut found);
        found.sort_unstable();
        assert_eq!(found, sorted([run.pid, orphan, child]));
    }
}

fn private_memory_is_counted() {
    let mut world = World::new();
    let ours = [std::process::id()];
    let before = proc::private(&ours);
    let block = vec![1u8; 64 << 20];
    let grown = proc::private(&ours) - before;
    assert!((64 << 20..80 << 20).contains(&grown), "{grown}");
    let share = proc::proportional(&ours).unwrap();
    assert!((64 << 20..before + grown + (1 << 20)).contains(&share), "{share}");
    assert_eq!(block.iter().map(|byte| usize::from(*byte)).sum::<usize>(), block.len());

    let run = world.start(actor(&["pause"]));
    let both = proc::private(&[run.pid, ours[0]]);
    assert!(both > proc::private(&ours) && both > proc::private(&[run.pid]));
    kill::process(run.pid, Sig::KILL);
    world.end(run.pid);
    assert_eq!((proc::private(&[run.pid]), proc::proportional(&[run.pid])), (0, Some(0)));
}

fn shared_memory_is_charged_in_shares() {
    let mut world = World::new();
    let mut run = world.start(program(&part("shares_memory")));
    let mut child = || run.line().parse().unwrap();
    let children = [child(), child()];
    let tree = [run.pid, children[0], children[1]];
    let (private, share) = (proc::private(&tree), proc::proportional(&tree).unwrap());
    assert!(private > 3 * (64 << 20), "{private}");
    assert!((64 << 20..96 << 20).contains(&share), "{share}");
}

/// Root in a container has no CAP_SYS_PTRACE, and its apps may be other users.
fn strangers_marks_are_read_without_rights() {
    crate::start::need_root();
    let mut world = World::new();
    let words = ["orphan", "[", "ids", "pause", "]", "say:ready", "pause"];
    let (user, group) = (Some("54321".into()), Some("54321".into()));
    let mut run = world.start(Plan { user, group, ..marked("9", &words) });
    let [orphan] = pids_of(&mut run);
    keep_rights_to_be_others();
    let environ = std::fs::read(format!("/proc/{orphan}/environ"));
    assert_eq!(environ.map_err(|error| error.kind()), Err(std::io::ErrorKind::PermissionDenied));
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: true, mark: "9" };
        assert_eq!(tree(&mut processes, &root, &[run.pid]), sorted([run.pid, orphan]));
    }
    assert!(proc::proportional(&[orphan]).is_some_and(|bytes| bytes > 0));
    assert!(nix::unistd::geteuid().is_root());
}

/// Leaves only the capabilities to become others and to signal them (capset(2)).
fn keep_rights_to_be_others() {
    const KILL: u32 = 5;
    const SETGID: u32 = 6;
    const SETUID: u32 = 7;
    let (version, us) = (0x2008_0522u32, 0u32);
    let kept = 1 << KILL | 1 << SETGID | 1 << SETUID;
    let (header, data) = ([version, us], [kept, kept, 0, 0, 0, 0u32]);
    // SAFETY: the header and the two sets of version 3 are as large as the kernel expects.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Runs a part as a program in namespaces of its own, without the variable that plays another part.
fn in_namespaces(ns: Ns, name: &str) -> End {
    let [this, flag, name] = part(name);
    let script = format!("unset {}; exec \"$0\" \"$@\"", crate::common::ROLE);
    let mut run = ns.start(&["/bin/sh", "-c", &script, &this, &flag, &name]);
    let end = run.end();
    println!("{:#?}{:#?}", run.rest(), run.err_rest());
    end
}

fn pid_1_reaches_everyone() {
    assert_eq!(in_namespaces(Ns::pid1(), "looks_as_pid_1"), End::Code(0));
}

fn looks_as_pid_1() {
    assert!(pm3::sys::place::is_pid_1());
    everything_is_every_descendant();
}

fn without_proc_there_is_the_main_process() {
    assert_eq!(in_namespaces(Ns::second().with("hide:/proc"), "looks_without_proc"), End::Code(0));
}

fn looks_without_proc() {
    assert!(!pm3::sys::place::has_own_proc() && pm3::sys::place::pid_namespace().is_none());
    let mut world = World::new();
    let (read, write) = nix::unistd::pipe().unwrap();
    nix::unistd::dup2_stdin(read).unwrap();
    let mut run = world.start(Plan { stdin: Stdin::Inherit, ..sh("echo ready; read -r line") });
    assert_eq!(run.line(), "ready");
    for mut processes in ways() {
        let root = Root { main: run.pid, alive: true, mark: "1" };
        assert_eq!(tree(&mut processes, &root, &[run.pid]), [run.pid]);
        let mut found = vec![];
        processes.everything(&mut found);
        assert!(found.is_empty());
    }
    assert_eq!((proc::private(&[run.pid]), proc::proportional(&[run.pid])), (0, Some(0)));
    let failure = world.fail(&Plan { oom_score_adj: Some(500), ..sh("") });
    assert_eq!(
        failure.to_string(),
        "start failed at oom_score_adj /proc/self/oom_score_adj: no such file or directory"
    );
    drop(write);
    assert_eq!(world.end(run.pid), End::Code(1));
}

fn looking_allocates_nothing() {
    let mut world = World::new();
    let words = ["orphan", "[", "ids", "child", "[", "ids", "pause", "]", "pause", "]", "say:ready", "pause"];
    let mut run = world.start(marked("7", &words));
    let [_, _] = pids_of(&mut run);
    for mut processes in ways() {
        let mut found = Vec::new();
        let mut look = || {
            found.clear();
            processes.refresh(|pid| pid == run.pid);
            processes.tree(&Root { main: run.pid, alive: true, mark: "7" }, &mut found);
            assert_eq!(found.len(), 3);
            assert!(proc::private(&found) + proc::proportional(&found).unwrap() > 0);
            processes.is_blurred()
        };
        // The first time buffers grow, and a child that is about to end is remembered until it has.
        while look() {}
        let mut before = allocations();
        while look() {
            before = allocations();
        }
        assert_eq!(allocations() - before, 0);
    }
}
