//! The real binary at both ends of the socket: what an operator types, reads, and finds in `$?`.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollTimeout, poll};
use pm3::control::Row;
use pm3::control::client::Client;
use pm3::control::place::{Address, Candidate};
use pm3::supervisor::event::Sig;

use crate::common::lines::Lines;
use crate::common::ns::{Ns, signal};
use crate::common::tty::Terminal;
use crate::common::{PATIENCE, PM3, ROLE, this_binary};
use crate::desk::{Scratch, dial, hear, is_over, peer, say};

/// Two instances of `web`, and `worker` in a namespace of its own. All of them wait for their end.
fn plan() -> String {
    let app = this_binary();
    format!(
        r#"
            [[apps]]
            name = "web"
            script = "{app}"
            args = ["app", "pause"]
            instances = 2
            env = {{ {ROLE} = "1" }}

            [[apps]]
            name = "worker"
            namespace = "jobs"
            script = "{app}"
            args = ["app", "pause"]
            env = {{ {ROLE} = "1" }}

            [[apps]]
            name = "deaf"
            script = "{app}"
            args = ["app", "deaf", "say:deaf", "pause"]
            autostart = false
            kill_timeout = "10m"
            env = {{ {ROLE} = "1" }}

            [pm3]
            stop_budget = "1s"
        "#
    )
}

/// A pm3 that supervises, as this test's child.
pub struct Init {
    child: Child,
    /// What its apps say.
    pub out: Lines,
    /// What pm3 says. Kept open: a pm3 that nobody listens to says less.
    err: Lines,
    scratch: Scratch,
}

impl Init {
    pub fn start() -> Init {
        Init::with_limit(None)
    }

    /// With this many file descriptors at most.
    pub fn with_limit(files: Option<u64>) -> Init {
        Init::at(Scratch::new(), files)
    }

    fn at(scratch: Scratch, files: Option<u64>) -> Init {
        let file = scratch.path("pm3.toml");
        std::fs::write(&file, plan()).unwrap();
        let mut command = bare(&scratch);
        command.arg("init").arg(file).arg("--socket").arg(scratch.path("socket"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let before_exec = move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            if let Some(files) = files {
                nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, files, files)?;
            }
            Ok(())
        };
        // SAFETY: it makes two system calls, both async-signal-safe.
        unsafe { command.pre_exec(before_exec) };
        let mut child = command.spawn().unwrap();
        let out = Lines::new("apps", OwnedFd::from(child.stdout.take().unwrap()));
        let mut err = Lines::new("pm3", OwnedFd::from(child.stderr.take().unwrap()));
        for _ in 0..3 {
            while !err.next().expect("pm3 has ended").contains(": online") {}
        }
        Init { child, out, err, scratch }
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path("socket")
    }

    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// Runs `pm3 WORDS`.
    fn pm3(&self, words: &[&str]) -> Said {
        said(bare(&self.scratch).args(words).arg("--socket").arg(self.socket()))
    }

    /// A client as `pm3` itself is one.
    pub fn client(&self) -> Client {
        let candidate = Candidate { address: Address::parse(&self.socket()), named: true };
        Client::connect(&[candidate], pm3::sys::place::uid(), peer).unwrap()
    }

    /// Lets pm3 read its file again, and waits until it has.
    pub fn read_again(&mut self) {
        signal(self.pid(), Sig::HUP);
        while !self.err.next().expect("pm3 has ended").contains("file read again") {}
    }

    /// Waits for the end of pm3; its exit code.
    pub fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    fn rows(&self) -> Vec<Row> {
        let Said { code: 0, out, .. } = self.pm3(&["list", "--json"]) else { panic!("no list") };
        serde_json::from_str(&out).unwrap()
    }

    fn statuses(&self) -> Vec<(u32, String, u32)> {
        self.rows().into_iter().map(|row| (row.id, row.status.into(), row.restarts)).collect()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // It ends its apps, too; killing it would leave them behind.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.pid(), Sig::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The binary, with nothing around it that could tell it of another pm3.
fn bare(scratch: &Scratch) -> Command {
    let mut command = Command::new(PM3);
    for name in ["PM3_HOME", "PM3_CONFIG", "PM3_LOG", "RUST_LOG", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command.env("HOME", scratch.path("")).env("PM3_LOG_MODE", "inherit");
    command
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A line of the table, its columns parted by single spaces.
fn table_line(out: &str, start: &str) -> String {
    let lines = out.lines().map(|line| line.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" "));
    lines.into_iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {out}"))
}

#[test]
fn verbs_do_what_they_say_and_show_it() {
    let pm3 = Init::start();
    let ping = pm3.pm3(&["ping"]);
    assert_eq!(ping.code, 0);
    assert_eq!(
        ping.out,
        format!("pong from pm3 {}, pid {}, at {}\n", env!("CARGO_PKG_VERSION"), pm3.pid(), pm3.socket().display())
    );

    let listed = pm3.pm3(&["ls"]);
    assert_eq!((listed.code, listed.err.as_str()), (0, ""));
    assert!(
        table_line(&listed.out, "id")
            .starts_with("id name namespace version mode pid uptime ↺ status cpu mem user watching"),
        "{}",
        listed.out
    );
    assert!(table_line(&listed.out, "2 worker jobs").contains(" online "), "{}", listed.out);

    let stopped = pm3.pm3(&["stop", "web"]);
    assert_eq!((stopped.code, stopped.err.as_str()), (0, ""));
    let mut told: Vec<&str> = stopped.out.lines().take(3).collect();
    // Whoever ends first is told first.
    told[1..].sort_unstable();
    let action = "[PM3] Applying action stop on app [web](ids: [ 0, 1 ])";
    assert_eq!(told, [action, "[PM3] [web](0) ✓", "[PM3] [web](1) ✓"], "{}", stopped.out);
    assert!(
        table_line(&stopped.out, "1 web default N/A fork 0 0 0 stopped 0% 0b").ends_with("operator"),
        "{}",
        stopped.out
    );

    let restarted = pm3.pm3(&["restart", "jobs"]);
    assert_eq!((restarted.code, restarted.err.as_str()), (0, ""));
    let online = |id, restarts| (id, "online".to_owned(), restarts);
    let stopped = |id| (id, "stopped".to_owned(), 0);
    assert_eq!(pm3.statuses()[..3], [stopped(0), stopped(1), online(2, 1)]);

    assert_eq!(pm3.pm3(&["start", "1"]).code, 0);
    assert_eq!(pm3.statuses()[..3], [stopped(0), online(1, 0), online(2, 1)]);
    assert_eq!(pm3.pm3(&["start", "default"]).code, 0);
    assert_eq!(pm3.statuses(), [online(0, 0), online(1, 0), online(2, 1), online(3, 0)]);
}

#[test]
fn all_targets_are_tried_and_the_code_tells_of_one_that_failed() {
    let pm3 = Init::start();
    let said = pm3.pm3(&["stop", "wroker", "17", "web"]);
    assert_eq!(said.code, 1);
    assert_eq!(
        said.err,
        "[PM3][ERROR] wroker: no such app, namespace or id; did you mean worker?\n\
         [PM3][ERROR] 17: no such app, namespace or id; `pm3 list` shows what there is\n"
    );
    let statuses: Vec<String> = pm3.statuses().into_iter().map(|(_, status, _)| status).collect();
    assert_eq!(statuses, ["stopped", "stopped", "online", "stopped"]);
}

#[test]
fn without_a_supervisor_every_verb_says_so() {
    let scratch = Scratch::new();
    let socket = scratch.path("none");
    for words in [&["list"][..], &["ping"], &["stop", "all"], &["list", "--json"]] {
        let Said { code, out, err } = said(bare(&scratch).args(words).arg("--socket").arg(&socket));
        assert_eq!((code, out.as_str()), (69, ""), "{words:?}");
        assert_eq!(
            err,
            format!(
                "[PM3][ERROR] no pm3 is running here: nobody listens at {}; `pm3 start APP` or \
                 `pm3 init FILE` starts one, --socket names one elsewhere\n",
                socket.display()
            )
        );
    }
}

#[test]
fn what_needs_no_supervisor_asks_none() {
    let scratch = Scratch::new();
    let version = said(bare(&scratch).arg("--version"));
    assert_eq!((version.code, version.out), (0, format!("{}\n", env!("CARGO_PKG_VERSION"))));
    let help = said(bare(&scratch).arg("--help"));
    assert!(help.code == 0 && help.out.contains("Verbs:") && help.err.is_empty());
    for wrong in [&["restrat", "web"][..], &["stop"], &[]] {
        let Said { code, out, err } = said(bare(&scratch).args(wrong));
        assert_eq!((code, out.as_str()), (64, ""), "{wrong:?}");
        assert!(err.contains("--help") || err.contains("Usage: pm3"), "{err}");
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error_and_a_full_disk_is() {
    let scratch = Scratch::new();
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    drop(reader);
    let mut keys = bare(&scratch);
    keys.args(["check", "--keys"]).stderr(Stdio::piped());
    let gone = keys.stdout(writer).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((gone.status.code(), gone.stderr.len()), (Some(0), 0));

    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = keys.stdout(full).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(full.status.code(), Some(74));
    assert_eq!(String::from_utf8_lossy(&full.stderr), "[PM3][ERROR] stdout: no space left on device\n");
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    let mut first = Init::start();
    first.pm3(&["stop", "all"]);
    signal(first.pid(), Sig::KILL);
    first.child.wait().unwrap();
    let scratch = std::mem::replace(&mut first.scratch, Scratch::new());
    assert!(scratch.path("socket").exists());
    let second = Init::at(scratch, None);
    assert_eq!(second.pm3(&["ping"]).code, 0);
    signal(second.pid(), Sig::TERM);
    let mut second = second;
    second.child.wait().unwrap();
    assert!(!second.socket().exists());
}

#[test]
fn pid_1_is_found_from_inside_and_asked_by_nobody_from_outside() {
    let scratch = Scratch::new();
    let file = scratch.path("pm3.toml");
    // Its app is the client: a process of its own pid namespace that knows no path.
    let plan = format!(
        r#"
            [[apps]]
            name = "client"
            script = "{PM3}"
            args = ["ping"]
            kind = "oneshot"
            restart = "never"

            [[apps]]
            name = "stays"
            script = "{}"
            args = ["app", "pause"]
            env = {{ {ROLE} = "1" }}
        "#,
        this_binary()
    );
    std::fs::write(&file, plan).unwrap();
    let socket = scratch.path("socket");
    let words = [PM3, "init", file.to_str().unwrap(), "--socket", socket.to_str().unwrap()];
    let mut pm3 = Ns::pid1().env("HOME", "/none").env("PM3_LOG_MODE", "inherit").start(&words);
    let pong = pm3.line();
    let start = format!("pong from pm3 {}, pid 1, at @pm3/", env!("CARGO_PKG_VERSION"));
    assert!(pong.starts_with(&start), "{pong}");

    let Said { code, out, err } = said(bare(&scratch).args(["stop", "all", "--socket"]).arg(&socket));
    assert_eq!((code, out.as_str()), (77, ""));
    assert_eq!(
        err,
        "[PM3][ERROR] clients of another pid namespace are not let in; ask from inside, as with `docker exec`\n"
    );
}

/// What is said within a moment.
fn hear_now(mut stream: &UnixStream) -> String {
    let mut bytes = [0; 1_000];
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let count = stream.read(&mut bytes).unwrap_or(0);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

/// How often a process was given up or taken off the processor.
fn switches(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let counts =
        status.lines().filter(|line| line.contains("ctxt_switches")).filter_map(|line| line.split('\t').nth(1));
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

/// Waits until the process has done all there was to do: it waits for events, and none has woken it for a moment.
fn come_to_rest(pid: i32) {
    let rests = (0..1_000).any(|_| {
        let before = switches(pid);
        poll(&mut [], PollTimeout::from(20u8)).unwrap();
        waits(pid) && switches(pid) == before
    });
    assert!(rests, "pm3 never comes to rest");
}

/// Whether it is asleep, and not merely kept from running (proc_pid_stat(5)).
fn waits(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().starts_with(" S ")
}

#[test]
fn without_file_descriptors_an_operator_still_comes_in_and_nothing_spins() {
    let limit = 20;
    let pm3 = Init::with_limit(Some(limit));
    let idle: Vec<UnixStream> = (0..60).map(|_| dial(&pm3.socket()).unwrap()).collect();
    // Each answer shows that all of those before it have been looked at.
    for _ in 0..3 {
        assert_eq!(pm3.pm3(&["ping"]).code, 0);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", pm3.pid())).unwrap().count();
    assert!(open as u64 >= limit - 2, "the table is full: {open} of {limit}");
    assert_eq!(pm3.rows().len(), 4);

    come_to_rest(pm3.pid());

    // Those that had to give way were told why.
    let first = &idle[0];
    assert!(hear(first).contains("\"problem\":\"busy\""));
    assert!(is_over(first));
    drop(idle);
    assert_eq!(pm3.pm3(&["restart", "jobs"]).code, 0);
}

#[test]
fn when_all_descriptors_wait_for_answers_one_more_comes_in_and_the_next_in_turn() {
    let limit = 20;
    let mut pm3 = Init::with_limit(Some(limit));
    assert_eq!(pm3.pm3(&["start", "deaf"]).code, 0);
    assert_eq!(pm3.out.next().as_deref(), Some("deaf"));
    let pm3 = pm3;
    let ask = || {
        let stream = dial(&pm3.socket()).unwrap();
        say(&stream, "{\"version\":1,\"ask\":\"ping\"}\n");
        stream
    };
    // Nobody who waits for an end that does not come gives way.
    let wait = || {
        let stream = ask();
        assert!(hear(&stream).contains("pong"));
        say(&stream, "{\"ask\":{\"operate\":{\"verb\":\"stop\",\"targets\":[\"deaf\"]}}}\n");
        stream
    };
    // Handling a request takes descriptors, too, for a moment.
    let open = || {
        come_to_rest(pm3.pid());
        std::fs::read_dir(format!("/proc/{}/fd", pm3.pid())).unwrap().count() as u64
    };
    // Twice: what was lent must come back.
    for _ in 0..2 {
        let mut waiting = vec![wait()];
        while open() < limit {
            waiting.push(wait());
        }
        // The reserve lets one in, and once that one waits, nobody.
        waiting.push(wait());
        let shut_out = ask();
        let heard = hear_now(&shut_out);
        assert_eq!(heard, "", "there is no descriptor for it, {} are open", open());
        drop(waiting.swap_remove(0));
        assert!(hear(&shut_out).contains("pong"));
    }
}

#[test]
fn all_that_is_asked_of_a_thousand_at_once_is_answered() {
    let pm3 = Init::start();
    let socket = pm3.socket();
    let asked = |path: &Path| {
        let stream = dial(path).unwrap();
        say(&stream, "{\"version\":1,\"ask\":\"list\"}\n");
        stream
    };
    // Never more at once than one user may have.
    for _ in 0..40 {
        let streams: Vec<UnixStream> = (0..25).map(|_| asked(&socket)).collect();
        assert!(streams.iter().all(|stream| hear(stream).contains("\"name\":\"worker\"")));
    }
}

#[test]
fn a_list_that_is_watched_ends_with_its_supervisor_and_leaves_the_terminal_as_it_was() {
    let pm3 = Init::start();
    let (mut terminal, other) = Terminal::open();
    terminal.resize(100, 24);
    let mut command = bare(&pm3.scratch);
    command.args(["ls", "--watch", "--socket"]).arg(pm3.socket());
    command.stdin(other.try_clone().unwrap()).stderr(other.try_clone().unwrap()).stdout(other);
    let mut child = command.spawn().unwrap();
    // It must not keep the terminal open.
    drop(command);
    terminal.screen.until("└");
    drop(pm3);
    let rest = terminal.screen.text();
    assert!(rest.contains("\x1b[?25h\x1b[?1049l"), "{rest:?}");
    assert!(rest.contains("[PM3][ERROR] "), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(69));
}
