//! How bytes move: unread where nobody has to see them, and all of them, whatever else happens.

use std::fs;

use pm3::supervisor::event::Sig;

use crate::common::deeds::poured;
use crate::common::ns::Ns;
use crate::roles::roles;
use crate::until;
use crate::world::{Init, World, entry, has_not};

/// The bytes that the logger has read so far (proc_pid_io(5)), which are none where they were moved unread.
fn read_by_logger(init: &Init) -> usize {
    let [logger] = &roles(&init.proc)[..] else { panic!("one logger") };
    let (_, lines, err) = init.proc.inside(&["/bin/sh", "-c", &format!("cat /proc/{logger}/io")], &[]);
    let read = lines.iter().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap_or_else(|| panic!("{lines:?} {err:?}")).parse().unwrap()
}

/// These are the lines that `pour` writes, from the first on.
#[track_caller]
fn are_poured(bytes: &[u8]) {
    assert!(bytes.chunks(128).enumerate().all(|(at, line)| line == poured(at).as_slice()));
}

/// A file with so many bytes of the lines that `pour` writes: cat(1) is faster.
fn poured_file(world: &World, bytes: usize) -> String {
    fs::write(world.dir.join("lines"), (0..bytes / 128).flat_map(poured).collect::<Vec<u8>>()).unwrap();
    world.path("lines")
}

#[test]
fn what_nobody_has_to_see_is_moved_unread() {
    // Nothing is remembered; and what is remembered is the end.
    // How much of that is found in the pipe depends on who has a processor when.
    for (memory, most) in [("log_memory = 0", 16 << 20), ("", 28 << 20)] {
        const BYTES: usize = 32 << 20;
        let world = World::new();
        let mut gate = world.gate("gate");
        let file = poured_file(&world, BYTES);
        let script = format!("cat {file}; head -c 1 {} > /dev/null; echo over", gate.path);
        let keys = format!("kind = \"oneshot\"\nlog_mode = \"raw\"\n{memory}");
        world.plan(&entry("a", "/bin/sh", &["-c", &script], &keys));
        let mut init = world.boot(Ns::pid1());
        are_poured(&init.proc.out().bytes(BYTES));
        let read = read_by_logger(&init);
        assert!(read < most, "{memory}: {read} bytes were read");
        if memory.is_empty() {
            let last = init.does(&["logs", "a", "--raw", "--nostream", "--lines", "400"]);
            let expected =
                (BYTES / 128 - 400..BYTES / 128).map(|at| String::from_utf8(poured(at)[..127].into()).unwrap());
            assert_eq!(last, expected.collect::<Vec<_>>());
        }
        gate.open();
        init.proc.expect("over");
        let log = init.ends(0);
        has_not(&log, "dropped");
    }
}

#[test]
fn a_place_that_takes_nothing_is_stuck_though_nothing_was_read() {
    const BYTES: usize = 4 << 20;
    let world = World::new();
    let script = format!("cat {}; echo done > {}; exec sleep 1000", poured_file(&world, BYTES), world.path("mark"));
    world.plan(&entry("a", "/bin/sh", &["-c", &script], "log_mode = \"raw\"\nlog_memory = 0"));
    let mut init = world.boot(Ns::pid1());
    init.told("stdout takes nothing; output for it is dropped until it does");
    until("the app could write all it had", || fs::exists(world.path("mark")).unwrap());
    // What has been taken before that, and then what was dropped is told.
    let first = init.proc.out().bytes(16 << 10);
    are_poured(&first);
    let told = init.told("were dropped");
    let dropped: usize = told.split_once('(').unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(dropped > 0 && dropped < BYTES, "{told}");
    init.signal(Sig::TERM);
    let rest = init.proc.out().bytes(usize::MAX);
    let whole = [&first[..], &rest].concat();
    // Before the first line that came after what was dropped there may be an end of its own.
    let sum = whole.len() + dropped;
    assert!(sum == BYTES || sum == BYTES + 1, "{} and {dropped} of {BYTES}", whole.len());
    init.ends(0);
}
