//! Who may come in, and what they may ask. Root may change a thread's ids, and comes as somebody else; any other user
//! stays who it is, and pm3 is told that it is somebody else.

use std::os::unix::net::UnixStream;
use std::thread;

use nix::unistd::{getegid, geteuid};
use pm3::control::client::Error;
use pm3::control::codec::request_line;
use pm3::control::limits::{CLIENTS_MAX, CLIENTS_PER_UID_MAX};
use pm3::control::{Problem, Request};
use pm3::engine::server::Incoming;
use pm3::supervisor::event::Verb;
use pm3::supervisor::spec::{Right, Settings};

use crate::desk::{Desk, ENDLESS, abstract_name, facts, is_over, say};

/// Ids that no machine's files should belong to.
const STRANGER: u32 = 64_321;

/// The group of whoever `as_stranger` is.
fn strangers_group() -> u32 {
    if geteuid().is_root() { STRANGER } else { getegid().as_raw() }
}

/// A desk that takes whoever `as_stranger` is for a stranger, unless its group is let in.
fn desk(control_group: Option<u32>, control_right: Right) -> Desk {
    let control_group = control_group.map(|gid| gid.to_string().into());
    let settings = Settings { control_group, control_right, ..Settings::default() };
    let mut facts = facts(&abstract_name());
    if !geteuid().is_root() {
        facts.uid = STRANGER;
    }
    Desk::with(&settings, facts, 3)
}

/// Does `work` as somebody who is neither root nor the user that the desk belongs to.
fn as_stranger<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    as_another(STRANGER, work)
}

/// The same, with this uid if there is a choice.
fn as_another<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            if geteuid().is_root() {
                become_stranger(uid);
            }
            work()
        });
        other.join().unwrap()
    })
}

/// Changes the ids of this thread alone, as the raw system calls do: the kernel takes a peer's ids from the thread that
/// connects. The thread must end soon, as nothing else in this process expects it.
fn become_stranger(uid: u32) {
    let (id, user) = (libc::c_long::from(STRANGER), libc::c_long::from(uid));
    // SAFETY: no groups are read from the null list.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
    // SAFETY: takes three numbers.
    let gid = unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) };
    // SAFETY: takes three numbers.
    let uid = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
    assert_eq!((groups, gid, uid), (0, 0, 0), "{}", std::io::Error::last_os_error());
}

#[test]
fn a_stranger_is_told_so_and_holds_nothing() {
    let desk = desk(None, Right::View);
    as_stranger(|| {
        let streams: Vec<UnixStream> = (0..100).map(|_| desk.connect()).collect();
        assert!(streams.iter().all(is_over));
        let Err(Error::Refused(refusal)) = desk.client() else { panic!("let in") };
        assert_eq!(refusal.problem, Problem::Stranger);
        assert!(refusal.why.contains("may not use this pm3"), "{}", refusal.why);
    });
    if geteuid().is_root() {
        desk.assert_answers();
    }
}

#[test]
fn a_group_is_let_in_as_far_as_it_may() {
    for (right, may_stop) in [(Right::View, false), (Right::Operate, true), (Right::Admin, true)] {
        let desk = desk(Some(strangers_group()), right);
        as_stranger(|| {
            let mut client = desk.client().unwrap();
            assert_eq!(client.list().unwrap().len(), 3);
            match client.operate(Verb::Stop, vec!["web".into()], None) {
                Ok(outcome) => assert!(may_stop && outcome.failed.is_empty()),
                Err(Error::Refused(refusal)) => {
                    assert!(!may_stop);
                    assert_eq!(refusal.problem, Problem::NotAllowed);
                    assert_eq!(&*refusal.why, "this needs the right to operate, yours is to view");
                }
                Err(other) => panic!("{other}"),
            }
            // A request that is refused is no reason to go.
            assert_eq!(client.list().unwrap().len(), 3);
        });
    }
}

#[test]
fn an_operator_comes_in_however_many_others_wait() {
    // It takes two users, whom only root can be.
    if !geteuid().is_root() {
        return;
    }
    let desk = desk(Some(strangers_group()), Right::Operate);
    let request =
        Request::Operate { verb: Verb::Stop, targets: vec![ENDLESS.into()], environ: None, how: Default::default() };
    let line = String::from_utf8(request_line(&request).unwrap()).unwrap();
    let wait = |uid| {
        let streams = as_another(uid, || (0..CLIENTS_PER_UID_MAX).map(|_| desk.connect()).collect::<Vec<_>>());
        for stream in &streams {
            say(stream, &line);
            assert!(matches!(desk.seen(), Incoming::Asked { .. }));
        }
        streams
    };
    let _all: Vec<Vec<UnixStream>> =
        (0..CLIENTS_MAX / CLIENTS_PER_UID_MAX).map(|at| wait(STRANGER + at as u32)).collect();
    let busy = as_another(STRANGER + 99, || is_over(&desk.connect()));
    assert!(busy);
    desk.assert_answers();
}

#[test]
fn another_group_is_not_let_in() {
    let desk = desk(Some(STRANGER + 1), Right::Admin);
    as_stranger(|| {
        let Err(Error::Refused(refusal)) = desk.client() else { panic!("let in") };
        assert_eq!(refusal.problem, Problem::Stranger);
    });
}

#[test]
fn a_group_that_does_not_exist_lets_nobody_in() {
    let settings = Settings { control_group: Some("no such group".into()), ..Settings::default() };
    let desk = Desk::with(&settings, facts(&abstract_name()), 1);
    desk.assert_answers();
}

#[test]
fn the_loop_learns_the_right_of_who_asks() {
    let desk = Desk::new();
    let stream = desk.connect();
    let request = pm3::control::Request::Operate {
        verb: Verb::Stop,
        targets: vec![crate::desk::ENDLESS.into()],
        environ: None,
        how: Default::default(),
    };
    crate::desk::say(&stream, std::str::from_utf8(&pm3::control::codec::request_line(&request).unwrap()).unwrap());
    assert!(matches!(desk.seen(), Incoming::Asked { right: Right::Admin, .. }));
}
