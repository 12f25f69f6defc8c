//! An instance whose runs are short beside one that is well: who asks meanwhile does not meet it.

use std::io::Error;

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, Load, all_who_answer, ask, free_port};
use crate::common::ns::Ns;
use crate::world::{Init, World, app, has, has_not};

/// Of an instance that is in quarantine.
const SHOWN: &str = "until then other instances get its connections";

/// Kills a run of `web-1` as soon as it serves; the pid of the next one.
fn crash(init: &mut Init, pid: u32, serves: &str) -> u32 {
    init.proc.expect(serves);
    init.signal_inside(pid, Sig::KILL);
    init.online("web-1")
}

#[test]
fn who_crashes_again_and_again_gets_nobody_until_it_has_lived() {
    let (world, port) = (World::new(), free_port());
    let serves = format!("serves 127.0.0.1:{port}");
    world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], "instances = 2\nmin_uptime = \"5s\""));
    let mut init = world.boot(Ns::pid1());
    // In whatever order they come: the second line is there when both serve.
    let pid = init.online("web-1");
    init.lines(2);
    assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
    init.signal_inside(pid, Sig::KILL);
    // One short run may be an accident, and the next one serves at once.
    let pid = init.online("web-1");
    init.proc.expect(&serves);
    assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
    has_not(&init.does(&["show", "web"]), SHOWN);
    init.signal_inside(pid, Sig::KILL);
    let mut pid = init.online("web-1");

    // Nobody is turned away, or meets it, however often it goes on. Who comes before pm3 knows of a run's end waits for
    // the next one, so nobody has come between.
    let load = Load::asking(2, move || match ask((HOME, port))? {
        met if met.ends_with(" 1") => Err(Error::other(format!("met {met}"))),
        met => Ok(met),
    });
    for _ in 0..3 {
        pid = crash(&mut init, pid, &serves);
    }
    let (answered, failed) = load.end();
    assert_eq!((answered > 0, failed), (true, vec![]));

    init.told("web-1: in quarantine for ");
    init.proc.expect(&serves);
    has(&init.does(&["show", "1"]), SHOWN);
    // It serves where nobody else does.
    init.does(&["stop", "0"]);
    assert!(ask((HOME, port)).unwrap().ends_with(" 1"));
    init.does(&["start", "0"]);
    init.proc.expect(&serves);
    init.told("web-1: out of quarantine, has lived for 5000 ms");
    assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
    has_not(&init.does(&["show", "web"]), SHOWN);
    init.stop(0);
}

#[test]
fn who_is_alone_or_as_bad_as_all_others_serves_at_once() {
    for instances in [1, 2] {
        let (world, port) = (World::new(), free_port());
        let serves = format!("serves 127.0.0.1:{port}");
        let keys = format!("instances = {instances}\nmin_uptime = \"1h\"");
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], &keys));
        let mut init = world.boot(Ns::pid1());
        init.lines(instances);
        for _ in 0..3 {
            for id in 0..instances as u64 {
                init.signal_inside(init.pid(id), Sig::KILL);
                init.proc.expect(&serves);
            }
        }
        let all: Vec<String> = (0..instances).map(|n| n.to_string()).collect();
        assert_eq!(all_who_answer((HOME, port), instances), all);
        init.stop(0);
    }
}
