//! What a child finds when its program starts, and what is told when it does not start.

use pm3::supervisor::event::End;
use pm3::sys::signals::Inherited;
use pm3::sys::spawn::{self, Plan, Signals};

use crate::world::{World, program};

crate::tests![signals_are_clean, inherited_signals_are_passed_on_when_asked, a_program_that_is_not_there_is_named,];

/// The named line of the child's own /proc/self/status.
fn status_line(world: &mut World, name: &str, plan: Plan) -> String {
    let (end, text) = world.run(plan);
    assert_eq!(end, End::Code(0));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect(name);
    line.trim().into()
}

fn signals_are_clean() {
    let mut world = World::new();
    for name in ["SigBlk", "SigIgn"] {
        assert_eq!(status_line(&mut world, name, program(&["/bin/cat", "/proc/self/status"])), "0000000000000000");
    }
}

fn inherited_signals_are_passed_on_when_asked() {
    let mut world = World::new();
    // INT blocked; HUP, 32 and 33 ignored.
    let inherited = Inherited { mask: 0x2, ignored: 0x1_8000_0001 };
    for (name, expected) in [("SigBlk", "0000000000000002"), ("SigIgn", "0000000180000001")] {
        let mut plan = program(&["/bin/cat", "/proc/self/status"]);
        plan.signals = Signals::Inherit(inherited);
        assert_eq!(status_line(&mut world, name, plan), expected);
    }
}

fn a_program_that_is_not_there_is_named() {
    let mut world = World::new();
    let failure = world.fail(&program(&["/no/such/program"]));
    assert_eq!(failure.to_string(), "start failed at exec /no/such/program: no such file or directory");
    let mut plan = program(&["nope"]);
    plan.candidates = spawn::candidates(b"nope", Some(b"/bin:/usr/bin:")).unwrap();
    let failure = world.fail(&plan);
    assert_eq!(failure.to_string(), "start failed at exec nope: not found in PATH");
    assert_eq!(failure.exit_code(), 127);
}
