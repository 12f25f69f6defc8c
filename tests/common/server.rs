//! The words of the app that have to do with sockets.
//!
//! | word | does |
//! |---|---|
//! | `serve:ADDRESS` | listens there, prints `serves ADDRESS`, and answers one client after the other: see [`serve`] |
//! | `wary:ADDRESS` | the same, but calls `listen` only if its socket does not listen yet (SO_ACCEPTCONN) |
//! | `http:ADDRESS:DIR` | listens there, prints `serves ADDRESS`, and answers by HTTP: see [`http`] |
//! | `activated:N` | prints `handed COUNT NAMES` of the sockets that it is handed, and serves at its descriptor N as `serve` |
//! | `try:ADDRESS` | listens there for as long as it lives, and prints `ADDRESS ok`, or why not |
//! | `backlog:ADDRESS:N` | listens there, with so many who may wait, and accepts nobody; prints `listens` |
//! | `defer:ADDRESS` | as `serve`, but a client counts as connected when it has asked its first question |
//! | `dies:ADDRESS:N` | makes N children that die while they begin to listen there, then prints `died` |
//! | `handles:SIG` | from now on prints `handled SIG` when that comes, and exits with 0 |
//! | `notify:TEXT` | sends TEXT to `$NOTIFY_SOCKET`, with a newline for each `;`, its pid for each `@`, its first child's for `#` |
//! | `heir [ … ]` | tells there that a child is its main process, and ends at once; then the child does the words |
//! | `squats:N` | binds all names that its next N runs' `$NOTIFY_SOCKET` would have, had they its own mark's |
//! | `floods:TEXT` | sends TEXT there for ever, as fast as it goes |
//! | `beats:MS` | sends `WATCHDOG=1` there each MS for ever |
//! | `hidden` | lets nobody look into it but who may look into everything (PR_SET_DUMPABLE) |
//! | `udp:PORT`, `unix:PATH` | binds such a socket for as long as it lives, and prints `udp PORT ok`, `unix ok`, or why not |

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockopt, listen, socket, sockopt,
};

use super::app::say;

/// Does the word, if it is one of these.
pub fn run_one(verb: &str, argument: &str, words: &mut &[String]) -> bool {
    match verb {
        "serve" => serve(argument, TcpListener::bind(argument).unwrap()),
        "wary" => serve(argument, wary(argument)),
        "defer" => serve(argument, deferred(argument)),
        "dies" => dies(argument),
        // SAFETY: PR_SET_DUMPABLE takes a number.
        "hidden" => assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }, 0),
        "handles" => handles(argument),
        "http" => http(argument),
        "notify" => {
            let own = std::process::id().to_string();
            let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            let child = children.split(' ').next().unwrap_or_default();
            notify(&argument.replace(';', "\n").replace('@', &own).replace('#', child));
        }
        "heir" => {
            let block = super::app::take_block(words);
            let before = nix::unistd::Pid::this();
            let child = super::app::fork(|| {
                while nix::unistd::Pid::parent() == before {
                    std::thread::yield_now();
                }
                super::app::run(block);
            });
            notify(&format!("MAINPID={child}"));
            std::process::exit(0);
        }
        "squats" => squat(super::app::number(argument)),
        "floods" => loop {
            notify(&argument.replace(';', "\n"));
        },
        "beats" => beats(argument),
        "activated" => activated(super::app::number(argument)),
        "try" => tell(argument, TcpListener::bind(argument)),
        "backlog" => backlog(argument),
        "udp" => tell(&format!("udp {argument}"), UdpSocket::bind(format!("127.0.0.1:{argument}"))),
        "unix" => tell("unix", UnixListener::bind(argument)),
        _ => return false,
    }
    true
}

/// One line for what came of it. What was made stays.
fn tell<T>(what: &str, made: std::io::Result<T>) {
    match made {
        Ok(made) => {
            std::mem::forget(made);
            say(&format!("{what} ok"));
        }
        Err(error) => {
            let why = pm3::sys::why(error.raw_os_error().unwrap_or(0));
            say(&format!("{what} {why}"));
        }
    }
}

/// One client after the other; each line that it sends is a question:
///
/// - `who`: answered with the pid and the instance's number, and the connection is closed
/// - `keep`: the same, and the connection is kept
/// - `gate PATH`: the same as `who`, when the gate there is open
/// - `shutdown`: shuts the listening socket down, then the same as `who`
fn serve(address: &str, listener: TcpListener) {
    say(&format!("serves {address}"));
    answer_all(listener.as_raw_fd());
}

/// As a program that knows sd_listen_fds(3).
fn activated(fd: RawFd) {
    let [count, pid, names] = ["FDS", "PID", "FDNAMES"].map(|name| std::env::var(format!("LISTEN_{name}")).unwrap());
    assert_eq!(pid, std::process::id().to_string());
    say(&format!("handed {count} {names}"));
    answer_all(fd);
}

fn answer_all(listener: RawFd) {
    let who = format!("{} {}\n", std::process::id(), std::env::var("NODE_APP_INSTANCE").unwrap_or_default());
    loop {
        match nix::sys::socket::accept(listener) {
            // SAFETY: the kernel has just made it for us.
            Ok(client) => answer(unsafe { File::from_raw_fd(client) }, &who, listener),
            // One that was shut down has nobody for a moment; one that does not block is not what a program expects.
            Err(error) => assert_ne!(error, nix::errno::Errno::EAGAIN),
        }
    }
}

/// As gunicorn does.
fn wary(address: &str) -> TcpListener {
    let address: SockaddrIn = address.parse().unwrap();
    let made = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(made.as_raw_fd(), &address).unwrap();
    if !getsockopt(&made, sockopt::AcceptConn).unwrap() {
        listen(&made, Backlog::MAXCONN).unwrap();
    }
    made.into()
}

fn answer(client: File, who: &str, listener: i32) {
    let Ok(mut writer) = client.try_clone() else { return };
    for question in BufReader::new(client).lines().map_while(Result::ok) {
        match question.split_once(' ').unwrap_or((&question, "")) {
            ("gate", path) => drop(File::open(path).map(|mut gate| gate.read_exact(&mut [0]))),
            ("shutdown", _) => {
                // SAFETY: shutdown takes numbers.
                unsafe { libc::shutdown(listener, libc::SHUT_RDWR) };
            }
            _ => {}
        }
        let _ = writer.write_all(who.as_bytes());
        if question != "keep" {
            let _ = nix::sys::socket::shutdown(writer.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            return;
        }
    }
}

/// A client counts as connected when it has said something (TCP_DEFER_ACCEPT, tcp(7)).
fn deferred(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    let seconds: libc::c_int = 60;
    let (value, length) = ((&raw const seconds).cast(), size_of_val(&seconds) as libc::socklen_t);
    // SAFETY: the option takes a number.
    let done =
        unsafe { libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, length) };
    assert_eq!(done, 0);
    listener
}

/// Each is killed a bit later than the one before it, so that some are in the midst of their call.
fn dies(argument: &str) {
    let (address, count) = argument.rsplit_once(':').unwrap();
    for pause in 0..super::app::number::<u32>(count) {
        let child = super::app::fork(|| {
            loop {
                drop(TcpListener::bind(address));
            }
        });
        (0..pause * 50).for_each(|_| std::hint::spin_loop());
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(child, None).unwrap();
    }
    say("died");
}

fn squat(next: u64) {
    let mark = std::env::var("PM3_RUN").unwrap();
    let (pm3, run) = mark.rsplit_once('.').unwrap();
    let run: u64 = super::app::number(run);
    for run in run + 1..=run + next {
        let name = SocketAddr::from_abstract_name(format!("pm3-notify/{pm3}.{run}")).unwrap();
        std::mem::forget(UnixDatagram::bind_addr(&name).unwrap());
    }
}

/// As sd_notify(3) does.
fn notify(text: &str) {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect_addr(&address).unwrap();
    socket.send(text.as_bytes()).unwrap();
}

fn beats(pause: &str) {
    let pause: u16 = super::app::number(pause);
    loop {
        notify("WATCHDOG=1");
        nix::poll::poll(&mut [], pause).unwrap();
    }
}

/// Answers with the status that stands in the directory's file of the instance's number, and prints `healthy N` where that is
/// a good one, else `asked N`; `hang`: it never answers.
fn http(argument: &str) {
    let (address, dir) = argument.rsplit_once(':').unwrap();
    let index = std::env::var("NODE_APP_INSTANCE").unwrap_or_default();
    let listener = TcpListener::bind(address).unwrap();
    say(&format!("serves {address}"));
    let mut kept = Vec::new();
    loop {
        let Ok((mut client, _)) = listener.accept() else { continue };
        let mut head = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
        // A client that says nothing asks nothing.
        if head.by_ref().take_while(|line| !line.is_empty()).count() == 0 {
            continue;
        }
        let status = std::fs::read_to_string(format!("{dir}/{index}")).unwrap_or_default();
        if status == "hang" {
            kept.push(client);
            continue;
        }
        let good = status.starts_with(['2', '3']);
        let _ = write!(client, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        say(&format!("{} {index}", if good { "healthy" } else { "asked" }));
    }
}

/// As servers do that end what they have begun.
fn handles(argument: &str) {
    extern "C" fn handle(number: libc::c_int) {
        say(&format!("handled {}", pm3::supervisor::event::Sig(number as u8)));
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) }
    }
    let number = libc::c_int::from(super::app::sig(argument).0);
    // SAFETY: the program waits in a call, or says something itself, when the signal comes: it allocates nothing then.
    unsafe { libc::signal(number, handle as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

fn backlog(argument: &str) {
    let (address, most) = argument.rsplit_once(':').unwrap();
    let listener = TcpListener::bind(address).unwrap();
    // SAFETY: listen takes numbers.
    let done = unsafe { libc::listen(listener.as_raw_fd(), super::app::number(most)) };
    std::mem::forget(listener);
    say(if done == 0 { "listens" } else { "does not listen" });
}
