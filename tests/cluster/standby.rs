//! Spares: started, held at their port, and there at once when an instance dies.

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, ask, free_port};
use crate::world::{Init, World, app, both};

/// `web` serves at a port, with a spare.
fn with_spare(ns: crate::common::ns::Ns, instances: u32, keys: &str) -> (World, Init, u16) {
    let (world, port) = (World::new(), free_port());
    let keys = format!("instances = {instances}\nstandby = 1\n{keys}");
    world.plan(&app("web", &[&format!("serve:0.0.0.0:{port}")], &keys));
    let mut init = world.boot(ns);
    init.lines(instances as usize);
    init.told("stands by");
    (world, init, port)
}

/// pm3 says all of these, in any order.
#[track_caller]
fn all_told(init: &mut Init, parts: &[&str]) {
    let mut left = parts.to_vec();
    while !left.is_empty() {
        let line = init.told("");
        left.retain(|part| !line.contains(part));
    }
}

#[test]
fn a_spare_takes_over_from_an_instance_that_was_killed() {
    for ns in both() {
        let (_world, mut init, port) = with_spare(ns, 1, "");
        let rows = init.does(&["list", "--json"]).concat();
        assert_eq!((rows.matches("\"online\"").count(), rows.matches("\"standby\"").count()), (1, 1), "{rows}");
        assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
        let old = init.pid(0);
        init.signal_inside(old, Sig::KILL);
        init.told("web-1: takes over from web-0: SIGKILL");
        all_told(&mut init, &["web-1: online", "web-0: stands by"]);
        assert!(ask((HOME, port)).unwrap().ends_with(" 1"));
        init.stop(0);
    }
}
