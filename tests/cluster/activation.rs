//! Sockets that an app's entry names: they are there before its program is, and handed to it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use pm3::supervisor::event::Sig;

use crate::clients::{HOME, Kept, Load, all_who_answer, ask, free_port};
use crate::common::ns::Ns;
use crate::common::{PATIENCE, lacking, needs};
use crate::world::{World, app, both, entry, has};

/// Asks at a Unix socket who answers, as `PID INSTANCE`.
fn ask_at(path: &str) -> std::io::Result<String> {
    let mut server = UnixStream::connect(path)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(b"who\n")?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    Ok(answer.trim().to_owned())
}

#[test]
fn each_process_is_handed_its_sockets() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let path = world.path("socket");
        let keys = format!("instances = 2\nlisten = [\"127.0.0.1:{port}\", \"unix:{path}\"]");
        world.plan(&app("web", &["fds", "activated:3"], &keys));
        let mut init = world.boot(ns);
        let mut lines = init.lines(4);
        lines.sort();
        assert_eq!(lines, ["fds 0 1 2 3 4", "fds 0 1 2 3 4", "handed 2 web:web", "handed 2 web:web"]);
        assert_eq!(all_who_answer((HOME, port), 2), ["0", "1"]);
        has(&init.does(&["show", "web"]), "pm3's, handed over as $LISTEN_FDS");
        init.stop(0);
        assert!(!fs::exists(&path).unwrap());
    }
}

#[test]
fn no_question_is_left_without_an_answer() {
    for instances in [1, 2] {
        for ns in both() {
            let (world, port) = (World::new(), free_port());
            let keys = format!("instances = {instances}\nlisten = \":{port}\"\nmin_uptime = 100");
            world.plan(&app("web", &["activated:3"], &keys));
            let mut init = world.boot(ns);
            init.lines(instances);
            let load = Load::on(port, 4);
            for words in [
                &["reload", "web"][..],
                &["restart", "web"],
                &["scale", "web", "3"],
                &["reload", "web"],
                &["scale", "web", "1"],
                &["restart", "web"],
            ] {
                init.does(words);
            }
            let (answered, failed) = load.end();
            assert_eq!(failed, Vec::<String>::new(), "of {answered}");
            assert!(answered > 0);
            init.does(&["stop", "web"]);
            assert!(ask((HOME, port)).is_err());
            init.stop(0);
        }
    }
}

#[test]
fn who_comes_before_the_program_waits_for_it() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let mut gate = world.gate("gate");
        let path = world.path("socket");
        let job = app("job", &["say:job", &format!("gate:{}", gate.path)], "kind = \"oneshot\"");
        let keys = format!("listen = [\"127.0.0.1:{port}\", \"unix:{path}\"]\nrequires = [\"job\"]");
        world.plan(&(job + &app("web", &["activated:3"], &keys)));
        let mut init = world.boot(ns);
        init.proc.expect("job");
        let mut early: Vec<Kept> = (0..10).map(|_| Kept::to(port)).collect();
        early.iter_mut().for_each(|client| client.send("who"));
        UnixStream::connect(&path).unwrap();
        gate.open();
        for client in &mut early {
            assert!(client.line().is_some_and(|who| who.ends_with(" 0")));
        }
        init.stop(0);
    }
}

#[test]
fn a_program_that_binds_by_itself_is_given_what_its_entry_names() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let keys = format!("listen = \"127.0.0.1:{port}\"\nmin_uptime = 100\ninstances = 2");
        world.plan(&app("web", &[&format!("serve:127.0.0.1:{port}")], &keys));
        let mut init = world.boot(ns);
        init.lines(2);
        let load = Load::on(port, 2);
        init.does(&["reload", "web"]);
        init.does(&["restart", "web"]);
        let (answered, failed) = load.end();
        assert_eq!(failed, Vec::<String>::new(), "of {answered}");
        init.stop(0);
    }
}

#[test]
fn a_unix_socket_stays_while_processes_come_and_go() {
    for ns in both() {
        let world = World::new();
        let path = world.path("socket");
        // What a pm3 left that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let keys = format!("listen = \"unix:{path}\"\nsocket_mode = \"600\"\nmin_uptime = 100");
        world.plan(&app("web", &["activated:3"], &keys));
        let mut init = world.boot(ns);
        init.proc.expect("handed 1 web");
        let file = fs::symlink_metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, 0o600);
        let first = ask_at(&path).unwrap();
        for verb in ["reload", "restart"] {
            let before = ask_at(&path).unwrap();
            let asked = init.begins(&[verb, "web"]);
            init.proc.expect("handed 1 web");
            assert!(asked.wait_with_output().unwrap().status.success());
            assert_ne!(ask_at(&path).unwrap(), before);
        }
        assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), file.ino());
        // Who was killed leaves what waits to the next.
        let pid = ask_at(&path).unwrap().split_once(' ').unwrap().0.to_owned();
        assert_ne!(pid, first.split_once(' ').unwrap().0);
        init.signal_inside(init.pid(0), Sig::KILL);
        init.proc.expect("handed 1 web");
        assert!(!ask_at(&path).unwrap().starts_with(&pid));
        // Somebody tidies up: the next process has one again.
        fs::remove_file(&path).unwrap();
        init.does(&["restart", "web"]);
        ask_at(&path).unwrap();
        init.does(&["stop", "web"]);
        assert!(!fs::exists(&path).unwrap());
        init.does(&["start", "web"]);
        ask_at(&path).unwrap();
        init.stop(0);
        assert!(!fs::exists(&path).unwrap());
    }
}

#[test]
fn what_is_somebody_elses_is_told_and_left_alone() {
    for ns in both() {
        let world = World::new();
        let (other, path) = (TcpListener::bind((HOME, 0)).unwrap(), world.write("file", "precious"));
        let port = other.local_addr().unwrap().port();
        let broken = |name, listen: &str| app(name, &["pause"], &format!("listen = \"{listen}\"\nmax_restarts = 1"));
        world.plan(
            &(broken("a", &format!("127.0.0.1:{port}"))
                + &broken("b", &format!("unix:{path}"))
                + &broken("c", "unix:/nowhere/at/all")
                + &app("d", &["pause"], "")),
        );
        let mut init = world.boot(ns);
        let why = init.told("a: errored");
        assert!(why.contains(&format!("listen tcp://127.0.0.1:{port}: address already in use")), "{why}");
        let why = init.told("b: errored");
        assert!(why.contains(&format!("listen unix:{path}: file exists")), "{why}");
        let why = init.told("c: errored");
        assert!(why.contains("listen unix:/nowhere/at/all: no such file or directory"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        init.stop(0);
    }
}

#[test]
fn another_user_has_what_its_entry_names() {
    if !nix::unistd::geteuid().is_root() {
        return lacking("root", 1);
    }
    let world = World::new();
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.map_or(1024, |text| text.trim().parse().unwrap());
    // Where nobody needs a right for any port, this is one as any other. Not the one that another test tries.
    let port = if first > 1 { first - 2 } else { free_port() };
    let path = world.path("socket");
    let keys = format!("user = \"65534\"\nlisten = [\"127.0.0.1:{port}\", \"unix:{path}\"]\nsocket_mode = \"600\"");
    world.plan(&app("web", &["uid", &format!("serve:127.0.0.1:{port}")], &keys));
    let mut init = world.boot(Ns::pid1().with("rooted"));
    assert_eq!(init.lines(2), [format!("serves 127.0.0.1:{port}"), "uid 65534".to_owned()]);
    assert!(ask((HOME, port)).unwrap().ends_with(" 0"));
    let file = fs::symlink_metadata(&path).unwrap();
    assert_eq!((file.uid(), file.gid(), file.permissions().mode() & 0o7777), (65_534, 65_534, 0o600));
    init.stop(0);
}

#[test]
fn a_changed_entry_opens_and_closes() {
    for ns in both() {
        let (world, old, new) = (World::new(), free_port(), free_port());
        let web = |listen: &str| app("web", &["activated:3"], &format!("listen = [{listen}]\nmin_uptime = 100"));
        let path = world.path("socket");
        world.plan(&web(&format!("\"127.0.0.1:{old}\", \"unix:{path}\"")));
        let mut init = world.boot(ns);
        init.proc.expect("handed 2 web:web");
        world.plan(&web(&format!("\"127.0.0.1:{new}\"")));
        init.signal(Sig::HUP);
        init.proc.expect("handed 1 web");
        init.told("web: stopping");
        while ask((HOME, old)).is_ok() {}
        assert!(ask((HOME, new)).unwrap().ends_with(" 0"));
        assert!(!fs::exists(&path).unwrap());
        init.stop(0);
    }
}

#[test]
fn the_word_that_it_is_ready_comes_over_a_descriptor_of_its_own() {
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        let script =
            "echo $LISTEN_FDS $NODE_CHANNEL_FD; [ $LISTEN_PID = $$ ] && printf '\"ready\"\\n' >&4; exec sleep 1000";
        let keys = format!("listen = \"127.0.0.1:{port}\"\nwait_ready = true\nlisten_timeout = \"1h\"");
        world.plan(&entry("web", "/bin/sh", &["-c", &script.replace('$', "$$")], &keys));
        let mut init = world.boot(ns);
        init.proc.expect("1 4");
        init.told("web: online");
        init.stop(0);
    }
}

/// A server that says who it is to whoever connects, and bears it when that one resets the connection.
const NODE: &str =
    "require('net').createServer(c => c.on('error', () => {}).once('data', () => c.end(process.pid + ' 0\\n')))";

#[test]
fn node_and_python_take_what_they_are_handed() {
    let python = "import socket,os
s=socket.socket(fileno=3)
while True:
    c,_=s.accept(); c.recv(99); c.sendall(b'%d 0\\n'%os.getpid()); c.close()";
    let node = format!("{NODE}.listen({{ fd: 3 }})");
    for (program, name, text) in [("node", "a.js", &*node), ("python3", "a.py", python)] {
        let Some(program) = needs(program, 1) else { continue };
        for ns in both() {
            let (world, port) = (World::new(), free_port());
            let script = world.write(name, text);
            let keys =
                format!("listen = \"127.0.0.1:{port}\"\nmin_uptime = 500\ninterpreter = \"{}\"", program.display());
            world.plan(&entry("web", &script, &[], &keys));
            let mut init = world.boot(ns);
            init.told("web: online");
            let before = ask((HOME, port)).unwrap();
            let load = Load::on(port, 2);
            init.does(&["reload", "web"]);
            let (answered, failed) = load.end();
            assert_eq!(failed, Vec::<String>::new(), "of {answered}");
            assert_ne!(ask((HOME, port)).unwrap(), before);
            init.stop(0);
        }
    }
}

#[test]
fn node_is_taught_to_take_its_port_where_nobody_sees_it_bind() {
    let Some(node) = needs("node", 1) else { return };
    for ns in both() {
        let (world, port) = (World::new(), free_port());
        // Its own options are kept, and a child of its own has another socket.
        let text =
            format!("console.log(globalThis.own); {NODE}.listen({port}, '127.0.0.1', () => console.log('listens'))");
        let script = world.write("server.js", &text);
        let own = world.write("own.cjs", "globalThis.own = 'own'");
        let keys = format!(
            "listen = \"127.0.0.1:{port}\"\nmin_uptime = 500\ninstances = 2\ninterpreter = \"{}\"\nenv = {{ NODE_OPTIONS = \"--require={own}\" }}",
            node.display()
        );
        world.plan(&entry("web", &script, &[], &keys));
        let mut init = world.boot(ns.with("refuse:seccomp"));
        let mut lines = init.lines(4);
        lines.sort();
        assert_eq!(lines, ["listens", "listens", "own", "own"]);
        let load = Load::on(port, 2);
        init.does(&["reload", "web"]);
        let (answered, failed) = load.end();
        assert_eq!(failed, Vec::<String>::new(), "of {answered}");
        has(&init.does(&["show", "web"]), "which Node takes for listen(PORT) by $NODE_OPTIONS");
        init.stop(0);
    }
}
