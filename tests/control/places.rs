//! Where the socket is made, and what is done about what is there already.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{getegid, geteuid};
use pm3::control::client::{Client, Error};
use pm3::control::place::{Address, Candidate, Facts};
use pm3::supervisor::spec::Settings;
use pm3::sys::socket::{self, Owner};

use crate::desk::{Desk, Scratch, abstract_name, facts, peer};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn desk(socket: &Path) -> Desk {
    Desk::with(&Settings::default(), facts(socket), 1)
}

#[test]
fn the_directory_is_made_and_only_the_owner_comes_in() {
    let scratch = Scratch::new();
    let socket = scratch.path("a/b/control.sock");
    let desk = desk(&socket);
    assert_eq!(desk.places, [socket.display().to_string()]);
    assert_eq!(mode(socket.parent().unwrap()), 0o711);
    assert_eq!(mode(&socket), 0o600);
    desk.assert_answers();
    drop(desk);
    assert!(!socket.exists(), "the socket's name goes with its server");
}

#[test]
fn a_group_that_is_let_in_can_reach_it() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    let gid = getegid().as_raw();
    let settings = Settings { control_group: Some(gid.to_string().into()), ..Settings::default() };
    let desk = Desk::with(&settings, facts(&socket), 1);
    assert_eq!(mode(&socket), 0o660);
    assert_eq!(fs::metadata(&socket).unwrap().gid(), gid);
    desk.assert_answers();
}

#[test]
fn it_is_open_to_whom_it_should_be_from_its_first_moment_on() {
    let scratch = Scratch::new();
    let watch = Inotify::init(InitFlags::empty()).unwrap();
    watch.add_watch(&scratch.path(""), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB).unwrap();
    let desk = desk(&scratch.path("control.sock"));
    let seen = watch.read_events().unwrap();
    let changes = seen.iter().filter(|event| event.mask == AddWatchFlags::IN_ATTRIB);
    // Between a chmod(2) and what was there before it somebody may put a link: the file is made as it shall be.
    assert_eq!((seen.len(), changes.count()), (2, 0), "{seen:?}");
    assert_eq!(mode(&scratch.path("control.sock")), 0o600);
    desk.assert_answers();
}

#[test]
fn nothing_is_reached_through_a_link_that_somebody_has_put_there() {
    let scratch = Scratch::new();
    let victim = scratch.path("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o604)).unwrap();
    for name in ["control.sock.lock", "control.sock"] {
        for target in [&victim, &scratch.path("missing")] {
            symlink(target, scratch.path(name)).unwrap();
            let owner = Owner { uid: None, gid: Some(getegid().as_raw()) };
            assert!(desk(&scratch.path("control.sock")).places.is_empty(), "{name}");
            let found = socket::listen_at(&scratch.path(name), 0o666, owner, 8);
            assert_eq!(found.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
            fs::remove_file(scratch.path(name)).unwrap();
        }
    }
    assert!(!scratch.path("missing").exists());
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("precious", 0o604));
    desk(&scratch.path("control.sock")).assert_answers();
}

#[test]
fn what_a_dead_pm3_left_is_replaced() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    // Closing does not remove the name, as when a process is killed.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(UnixStream::connect(&socket).is_err());
    desk(&socket).assert_answers();
}

#[test]
fn a_living_pm3_is_left_alone() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    let first = desk(&socket);
    let second = desk(&socket);
    assert!(second.places.is_empty(), "{:?}", second.places);
    first.assert_answers();
    drop(second);
    first.assert_answers();
    // Also where somebody has tidied up its lock.
    fs::remove_file(scratch.path("control.sock.lock")).unwrap();
    assert!(desk(&socket).places.is_empty());
    first.assert_answers();
    drop(first);
    desk(&socket).assert_answers();
}

#[test]
fn a_living_pm3_that_is_stopped_is_left_alone_without_waiting() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    let stuck = UnixListener::bind(&socket).unwrap();
    // A queue of its least length, and full: whoever connects without care waits for ever.
    nix::sys::socket::listen(&stuck, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _queued = UnixStream::connect(&socket).unwrap();
    assert!(desk(&socket).places.is_empty());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    fs::write(&socket, "precious").unwrap();
    assert!(desk(&socket).places.is_empty());
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn the_first_place_that_works_is_taken() {
    let scratch = Scratch::new();
    fs::write(scratch.path("run"), "no directory").unwrap();
    // Root has one usual place, which is not for tests: then the server is told that it is somebody else.
    let facts = Facts {
        uid: geteuid().as_raw().max(1),
        xdg_runtime_dir: Some(scratch.path("run")),
        home: Some(scratch.path("")),
        ..Facts::default()
    };
    let desk = Desk::with(&Settings::default(), facts, 1);
    assert_eq!(desk.places, [scratch.path(".pm3/control.sock").display().to_string()]);
}

#[test]
fn there_is_no_socket_where_none_is_wanted() {
    let scratch = Scratch::new();
    let socket = scratch.path("control.sock");
    let settings = Settings { control: false, ..Settings::default() };
    assert!(Desk::with(&settings, facts(&socket), 1).places.is_empty());
    assert!(!socket.exists());
}

#[test]
fn no_place_at_all_is_no_reason_to_fail() {
    let desk = desk(Path::new("/proc/no/such/place"));
    assert!(desk.places.is_empty());
}

fn candidate(socket: &Path, named: bool) -> Candidate {
    Candidate { address: Address::parse(socket), named }
}

#[test]
fn clients_go_on_to_the_next_place() {
    let scratch = Scratch::new();
    drop(UnixListener::bind(scratch.path("dead")).unwrap());
    let desk = desk(&abstract_name());
    let candidates = [
        candidate(&scratch.path("missing"), true),
        candidate(&scratch.path("dead"), true),
        candidate(&desk.socket, true),
    ];
    let client = Client::connect(&candidates, geteuid().as_raw(), peer).unwrap();
    assert_eq!(client.address, Address::parse(&desk.socket));
}

#[test]
fn nobody_anywhere_is_said_with_where() {
    let places = [candidate(Path::new("/proc/none"), false), candidate(Path::new("@pm3-test/none"), false)];
    let error = Client::connect(&places, geteuid().as_raw(), peer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no pm3 is running here: nobody listens at /proc/none, @pm3-test/none; `pm3 start APP` or \
         `pm3 init FILE` starts one, --socket names one elsewhere"
    );
}

#[test]
fn a_socket_of_another_user_is_not_asked_unless_named() {
    let desk = desk(&abstract_name());
    // Seen by somebody who is neither root nor the desk's user.
    let foreign = |_: &UnixStream| Ok(pm3::control::client::Peer { pid: 7, uid: 64_322 });
    let error = Client::connect(&[candidate(&desk.socket, false)], 64_321, foreign).unwrap_err();
    assert!(matches!(error, Error::Foreign(..)), "{error}");
    assert!(error.to_string().contains("belongs to uid 64322 (pid 7), which is neither root nor you"), "{error}");
    Client::connect(&[candidate(&desk.socket, true)], 64_321, foreign).unwrap();
    // Another pid namespace's root is not ours; PID 1 is, whoever it runs as.
    let far_root = |_: &UnixStream| Ok(pm3::control::client::Peer { pid: 0, uid: 0 });
    assert!(Client::connect(&[candidate(&desk.socket, false)], 64_321, far_root).is_err());
    let init = |_: &UnixStream| Ok(pm3::control::client::Peer { pid: 1, uid: 64_322 });
    Client::connect(&[candidate(&desk.socket, false)], 64_321, init).unwrap();
}

#[test]
fn who_answers_nonsense_or_nothing_is_told_apart() {
    let scratch = Scratch::new();
    let talk = |name: &str, answer: &'static [u8]| {
        let socket = scratch.path(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).unwrap();
            std::io::Write::write_all(&mut stream, answer).unwrap();
        });
        let error = Client::connect(&[candidate(&socket, true)], geteuid().as_raw(), peer).unwrap_err();
        server.join().unwrap();
        error.to_string().replace(&socket.display().to_string(), "SOCKET")
    };
    assert_eq!(talk("gone", b""), "SOCKET: the connection was lost: unexpected end of file; has pm3 ended?");
    assert_eq!(
        talk("version", b"{\"version\":7,\"reply\":\"pong\"}\n"),
        "SOCKET: version 7 of the protocol is not spoken here, only 1; use the client of the release that is running"
    );
    assert_eq!(
        talk("web", b"HTTP/1.1 400 Bad Request\n"),
        "SOCKET: not a message of the protocol: expected value at line 1 column 1; is that a pm3?"
    );
    assert_eq!(
        talk("other", b"{\"version\":1,\"reply\":{\"list\":{\"rows\":[]}}}\n"),
        "SOCKET: not a message of the protocol: an answer to another question; is that a pm3?"
    );
}
