//! Receiving signals, sending them, and reaping.

use std::collections::BTreeMap;

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use pm3::supervisor::event::{End, Sig};
use pm3::sys::kill::{self, Sent};
use pm3::sys::reap::{self, Change, Children};
use pm3::sys::signals::{Inherited, Received};
use pm3::sys::spawn::{Plan, Session, Signals};

use crate::alone::part;
use crate::world::{World, actor, give_up_rights, program, readable};

crate::tests![TESTS:
    every_signal_is_delivered,
    realtime_signals_are_counted,
    a_flood_is_read_in_shares,
    the_kernels_signals_are_told_from_a_persons,
    what_was_inherited_is_remembered,
    children_are_reaped_where_sigchld_was_ignored,
    ends_are_told_as_they_were,
    a_stop_is_no_end,
    orphans_are_reaped,
    many_ends_are_told_in_turns,
    signals_that_reach_nobody_are_values,
    groups_are_signalled,
];

fn received(world: &World) -> Vec<Received> {
    let mut all = vec![];
    while world.signals.read_all(&mut all).unwrap() {}
    all
}

fn every_signal_is_delivered() {
    let mut world = World::new();
    // CONT would take back those that stop.
    let sent = || (1..=64).map(Sig).filter(|sig| ![Sig::KILL, Sig::STOP, Sig::CONT].contains(sig));
    let words: Vec<String> = sent().map(|sig| format!("send:{}:{}:1", std::process::id(), sig.0)).collect();
    let mut run = world.start(actor(&words.iter().map(String::as_str).chain(["line"]).collect::<Vec<_>>()));
    assert_eq!(run.out.rest(), ["line end"]);
    let mut got = received(&world);
    // Of its end we get SIGCHLD too, which may be the one that was sent.
    got.retain(|received| received.sig != Sig::CHLD);
    got.sort_by_key(|received| received.sig);
    assert!(got.iter().map(|received| received.sig).eq(sent().filter(|sig| *sig != Sig::CHLD)), "{got:?}");
    assert!(got.iter().all(|received| received.pid == run.pid && !received.by_kernel && received.code == 0));
    assert_eq!(world.end(run.pid), End::Code(0));
}

fn realtime_signals_are_counted() {
    let world = World::new();
    for _ in 0..50 {
        for sig in [Sig(40), Sig(64), Sig::USR1] {
            kill::process(std::process::id(), sig);
        }
    }
    let mut counts = BTreeMap::<u8, u32>::new();
    for got in received(&world) {
        *counts.entry(got.sig.0).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([(Sig::USR1.0, 1), (40, 50), (64, 50)]));
}

fn a_flood_is_read_in_shares() {
    let world = World::new();
    let pending = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_SIGPENDING).unwrap().0;
    let count = usize::try_from(pending / 2).unwrap().min(5000);
    for _ in 0..count {
        kill::process(std::process::id(), Sig(40));
    }
    let mut got = vec![];
    assert_eq!(world.signals.read_all(&mut got).unwrap(), count >= 4096);
    assert_eq!(got.len() + received(&world).len(), count);
}

fn the_kernels_signals_are_told_from_a_persons() {
    let world = World::new();
    nix::unistd::setsid().unwrap();
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let _terminal = open(ptsname_r(&master).unwrap().as_str(), OFlag::O_RDWR, Mode::empty()).unwrap();
    kill::process(std::process::id(), Sig::HUP);
    let persons = received(&world);
    assert_eq!(persons.iter().map(|got| (got.sig, got.by_kernel)).collect::<Vec<_>>(), [(Sig::HUP, false)]);
    drop(master);
    readable(&world.signals);
    let kernels = received(&world);
    assert!(kernels.iter().any(|got| got.sig == Sig::HUP && got.by_kernel), "{kernels:?}");
}

fn what_was_inherited_is_remembered() {
    let mut world = World::new();
    for (mask, ignored) in [(0, 0), (0x2, 0x1), (0x1_8000_4000, 0x1_8000_1000)] {
        let signals = Signals::Inherit(Inherited { mask, ignored });
        let part = Plan { signals, ..program(&part("prints_what_it_inherited")) };
        assert_eq!(world.lines(part), [format!("{mask:x} {ignored:x}")]);
    }
}

fn children_are_reaped_where_sigchld_was_ignored() {
    let mut world = World::new();
    let signals = Signals::Inherit(Inherited { mask: 1 << 16, ignored: 1 << 16 });
    let part = Plan { signals, ..program(&part("reaps_a_child")) };
    assert_eq!(world.lines(part), ["exit 7"]);
}

fn ends_are_told_as_they_were() {
    let mut world = World::new();
    for (word, end) in [
        ("exit:0", End::Code(0)),
        ("exit:255", End::Code(255)),
        ("die:TERM", End::Signal(Sig::TERM)),
        ("die:SEGV", End::Signal(Sig(11))),
        ("die:RTMIN+6", End::Signal(Sig(40))),
        ("die:64", End::Signal(Sig(64))),
    ] {
        let run = world.start(actor(&[word]));
        assert_eq!(world.end(run.pid), end, "{word}");
    }
    assert_eq!(reap::reap(&mut |_, _| {}), Children::None);
}

fn a_stop_is_no_end() {
    let mut world = World::new();
    let run = world.start(actor(&["stop:STOP", "exit:3"]));
    assert_eq!(world.change(run.pid), Change::Stopped(Sig::STOP));
    assert_eq!(reap::reap(&mut |pid, change| panic!("{pid}: {change:?}")), Children::Some);
    assert_eq!(kill::process(run.pid, Sig::CONT), Sent::Delivered);
    assert_eq!(world.change(run.pid), Change::Ended(End::Code(3)));
}

fn orphans_are_reaped() {
    let mut world = World::new();
    let mut run = world.start(actor(&["orphan", "[", "ids", "exit:9", "]"]));
    let line = run.line();
    let orphan = line.strip_prefix("ids pid=").and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    assert_eq!(world.end(orphan), End::Code(9));
    assert_eq!(world.end(run.pid), End::Code(0));
    assert_eq!(reap::reap(&mut |_, _| {}), Children::None);
}

fn many_ends_are_told_in_turns() {
    let mut world = World::new();
    let mut crowd = world.start(actor(&["crowd:5000", "pause"]));
    assert_eq!(crowd.line(), "crowd 5000");
    let turn = || {
        let mut ended = 0;
        let children = reap::reap(&mut |_, _| ended += 1);
        (ended, children)
    };
    assert_eq!([turn(), turn()], [(4096, Children::More), (904, Children::Some)]);
}

fn signals_that_reach_nobody_are_values() {
    give_up_rights();
    let mut world = World::new();
    let run = world.start(actor(&["pause"]));
    assert!(kill::alive(run.pid));
    assert_eq!(kill::process(run.pid, Sig::KILL), Sent::Delivered);
    assert_eq!(world.end(run.pid), End::Signal(Sig::KILL));
    assert!(!kill::alive(run.pid) && !kill::group_alive(run.pid));
    for sent in [kill::process(run.pid, Sig::TERM), kill::group(run.pid, Sig::TERM)] {
        assert_eq!(sent, Sent::Gone);
    }
    // Had any of these reached kill(2), this test would be gone too.
    for sent in [kill::group(0, Sig::KILL), kill::group(1, Sig::KILL), kill::process(0, Sig::KILL)] {
        assert_eq!(sent, Sent::Gone);
    }
    assert_eq!(kill::process(u32::MAX, Sig::KILL), Sent::Gone);
    assert_eq!(kill::group(u32::MAX, Sig::KILL), Sent::Gone);
    if std::process::id() != 1 && !nix::unistd::geteuid().is_root() {
        // 0 is no signal: whatever happens, process 1 takes no harm.
        assert_eq!(kill::process(1, Sig(0)), Sent::Refused);
    }
}

fn groups_are_signalled() {
    let mut world = World::new();
    let plan = Plan { session: Session::New, ..actor(&["child", "[", "say:there", "pause", "]", "pause"]) };
    let mut run = world.start(plan);
    assert_eq!(run.line(), "there");
    assert!(kill::group_alive(run.pid));
    assert_eq!(kill::group(run.pid, Sig::TERM), Sent::Delivered);
    assert_eq!(world.end(run.pid), End::Signal(Sig::TERM));
    // Its last member closes the output.
    assert_eq!(run.out.next(), None);
}
