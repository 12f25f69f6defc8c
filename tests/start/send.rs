//! `pm3 send` and `pm3 attach`: what is typed reaches the app, once and whole, and whoever cannot be reached is named.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use pm3::control::limits::TEXT_MAX;
use pm3::supervisor::event::Sig;

use crate::common::lines::Lines;
use crate::common::tty::Terminal;
use crate::common::world::{Said, World};
use crate::{container, rows, statuses, write};

/// Says what it reads, on its stdout and to the test, with its instance's number; at the end of its input it says so.
const ECHO: &str = "while read -r line; do echo \"got $line\"; echo \"$NODE_APP_INSTANCE got $line\" > \"$TELL\"; done\n\
                    echo eof > \"$TELL\"; exec sleep 1000\n";

fn world_with(name: &str, script: &str) -> World {
    let world = container();
    write(&world, name, script);
    world
}

/// One line of failure, and nothing else.
#[track_caller]
fn fails(said: &Said, line: &str) {
    assert_eq!((said.code, said.err.trim_end()), (1, line), "{said:#?}");
}

/// A FIFO in the world's folder that is open here for both sides, so that nobody's opening waits.
pub(crate) fn fifo(world: &World, name: &str) -> File {
    let path = world.at(name);
    nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

/// `pm3 attach` at work, by pipes.
struct Attached {
    child: Child,
    keys: Option<ChildStdin>,
    out: Lines,
    err: Lines,
}

impl Attached {
    fn new(world: &World, target: &str) -> Attached {
        let mut command = world.command(&["pm3", "attach", target]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::new("stdout of attach", child.stdout.take().unwrap());
        let err = Lines::new("stderr of attach", child.stderr.take().unwrap());
        Attached { keys: child.stdin.take(), child, out, err }
    }

    fn types(&mut self, text: &str) {
        self.keys.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_reaches_every_instance_of_the_target() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh --stdin pipe -i 2").ok();
    let said = world.pm3("send echo say  hello -v").ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("[PM3] [echo](0) ✓\n[PM3] [echo](1) ✓\n", ""));
    world.told("0 got say hello -v");
    world.told("1 got say hello -v");
    world.run(&["pm3", "send", "1", ""]).ok();
    assert_eq!(world.told("1 got"), "1 got ");
    world.run(&["pm3", "send", "/^ec/", "a\nb"]).ok();
    for line in ["0 got a", "0 got b", "1 got a", "1 got b"] {
        world.told(line);
    }
    let longest = "x".repeat(TEXT_MAX);
    world.run(&["pm3", "send", "0", &longest]).ok();
    assert_eq!(world.told("0 got x"), format!("0 got {longest}"));
    let said = world.run(&["pm3", "send", "0", &(longest + "x")]).ends(64);
    said.says("4096 bytes are too many for a line: an app gets 4095 at once; send it in parts");
    world.pm3("send echo").ends(64);
    world.end();
}

#[test]
fn each_run_has_an_input_of_its_own() {
    let mut world = world_with("echo.sh", ECHO);
    write(&world, "deaf.sh", "echo deaf > \"$TELL\"; exec sleep 1000");
    world.pm3("start echo.sh deaf.sh --stdin pipe").ok();
    world.told("deaf");
    // Nobody reads it, and the next run does not find it.
    world.pm3("send deaf old").ok();
    write(&world, "deaf.sh", ECHO);
    world.pm3("restart all").ok();
    world.pm3("send deaf new").ok();
    assert_eq!(world.told("0 got"), "0 got new");
    world.pm3("send echo two").ok();
    world.told("0 got two");
    world.pm3("stop echo").ok();
    fails(&world.pm3("send echo three"), "[PM3][ERROR] echo: is not online: nothing was sent");
    world.pm3("delete echo").ok();
    fails(
        &world.pm3("send echo four"),
        "[PM3][ERROR] echo: no such app, namespace or id; `pm3 list` shows what there is",
    );
    assert!(world.untaken().iter().all(|line| !line.contains("old") && line != "eof"));
    world.end();
}

#[test]
fn who_has_no_input_is_told_how_to_get_one() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh -i 2").ok();
    // What it reads ends at once.
    world.told("eof");
    let why = "[PM3][ERROR] echo: reads /dev/null; `pm3 restart echo --stdin pipe` starts it with an input";
    fails(&world.pm3("send echo hello"), &format!("{why} that can be sent to"));
    fails(&world.pm3("attach 0"), &format!("{why}, `pm3 logs echo --raw` shows what it writes"));
    let two = "[PM3][ERROR] echo: 2 instances are meant (ids 0, 1); name one, as in `pm3 attach 0`";
    fails(&world.pm3("attach echo"), two);
    fails(
        &world.pm3("attach nobody"),
        "[PM3][ERROR] nobody: no such app, namespace or id; `pm3 list` shows what there is",
    );
    world.pm3("restart echo --stdin pipe").ok();
    world.pm3("send echo hello").ok();
    world.told("0 got hello");
    world.told("1 got hello");
    world.pm3("show 0").ok().says("stdin a pipe");
    world.pm3("restart echo --stdin null").ok();
    fails(&world.pm3("send echo hello"), &format!("{why} that can be sent to"));
    world.pm3("start echo.sh -n other --stdin tty").ends(64).says("--stdin tty: expected null or pipe");
    world.end();
}

#[test]
fn who_does_not_read_or_has_closed_it_stops_nobody() {
    let mut world = world_with("echo.sh", ECHO);
    write(&world, "deaf.sh", "exec sleep 1000");
    write(&world, "shut.sh", "exec <&-; echo shut > \"$TELL\"; exec sleep 1000");
    world.pm3("start echo.sh deaf.sh shut.sh --stdin pipe").ok();
    world.told("shut");
    fails(&world.pm3("send shut hello"), "[PM3][ERROR] shut: has closed its input");
    let full = "deaf: does not read its input, which is full";
    let line = "x".repeat(TEXT_MAX);
    // A pipe holds 64 KiB; of a smaller one, fewer.
    let last = (0..=16).map(|_| world.run(&["pm3", "send", "deaf", &line])).find(|said| said.code != 0).unwrap();
    fails(&last, &format!("[PM3][ERROR] {full}; send again when it has read some"));
    let said = world.pm3("send all hello").ends(1).says("[PM3] [echo](0) ✓").lacks("[deaf]").says(full);
    assert_eq!(said.err.lines().count(), 2, "{said:#?}");
    world.told("0 got hello");
    let silent = world.run(&["pm3", "-s", "send", "/^(echo|shut)$/", "again"]).ends(1);
    assert_eq!((&*silent.out, silent.err.lines().count()), ("", 1), "{silent:#?}");
    world.told("0 got again");
    world.end();
}

#[test]
fn in_a_reload_the_newest_run_that_is_online_hears() {
    let script = "exec 3<&0; trap 'echo \"term $$\" > \"$TELL\"; read -r x < gate; exit' TERM\n\
                  (while read -r line; do echo \"got $$ $line\" > \"$TELL\"; done) <&3 &\n\
                  sleep 1000 & echo \"up $$\" > \"$TELL\"; while :; do wait; done\n";
    let mut world = world_with("two.sh", script);
    let mut gate = fifo(&world, "gate");
    world.pm3("start two.sh --stdin pipe").ok();
    let old = world.told("up").replace("up ", "");
    world.pm3("send two before").ok();
    world.told(&format!("got {old} before"));
    let mut reload = world.command(&["pm3", "reload", "two", "-s"]).spawn().unwrap();
    let new = world.told("up").replace("up ", "");
    world.told(&format!("term {old}"));
    // The old one is there until the gate opens.
    world.pm3("send two after").ok();
    assert_eq!(world.told("got"), format!("got {new} after"));
    gate.write_all(b"x\n").unwrap();
    assert!(reload.wait().unwrap().success());
    world.pm3("send two then").ok();
    assert_eq!(world.told("got"), format!("got {new} then"));
    gate.write_all(b"x\n").unwrap();
    world.end();
}

#[test]
fn who_attaches_by_pipes_types_and_sees_until_the_app_is_deleted() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh --stdin pipe").ok();
    world.pm3("send echo earlier").ok();
    world.told("0 got earlier");
    let mut attached = Attached::new(&world, "echo");
    attached.types("one\n\nno end");
    assert_eq!(attached.out.next().unwrap(), "got one");
    assert_eq!(attached.out.next().unwrap(), "got ");
    // What is left of a line is sent at the end, which ends nothing but the sending.
    drop(attached.keys.take());
    assert_eq!(attached.out.next().unwrap(), "got no end");
    world.pm3("send echo by another").ok();
    assert_eq!(attached.out.next().unwrap(), "got by another");
    // It follows the app into its next run.
    world.pm3("restart echo").ok();
    world.pm3("send echo again").ok();
    assert_eq!(attached.out.next().unwrap(), "got again");
    world.pm3("delete echo").ok();
    assert!(attached.child.wait().unwrap().success());
    assert_eq!((attached.out.text(), attached.err.text()), (String::new(), "[PM3] [echo](0) was deleted\n".into()));
    world.end();
}

#[test]
fn what_is_wrong_with_a_line_is_said_and_the_next_one_is_sent() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh --stdin pipe").ok();
    let mut attached = Attached::new(&world, "0");
    attached.types(&format!("{}\none\n", "x".repeat(3 * TEXT_MAX)));
    assert_eq!(attached.err.next().unwrap(), "[PM3][ERROR] stdin: a line of more than 4095 bytes was not sent");
    assert_eq!(attached.out.next().unwrap(), "got one");
    world.pm3("stop echo").ok();
    attached.types("two\n");
    assert_eq!(attached.err.next().unwrap(), "[PM3][ERROR] echo: is not online: nothing was sent");
    world.pm3("start echo").ok();
    attached.types("three\n");
    assert_eq!(attached.out.next().unwrap(), "got three");
    world.told("0 got three");
    world.end();
}

#[test]
fn a_long_file_arrives_whole_at_an_app_that_reads_late() {
    let script = "read -r x < gate; n=0; while read -r line; do n=$((n+1))\n\
                  case $line in end) echo \"$n lines\" > \"$TELL\";; \"$n \"*);; *) echo \"bad $line\" > \"$TELL\";; esac; done\n";
    let mut world = world_with("late.sh", script);
    let mut gate = fifo(&world, "gate");
    world.pm3("start late.sh --stdin pipe").ok();
    let mut attached = Attached::new(&world, "late");
    let filler = "x".repeat(200);
    let text: String = (1..1000).map(|n| format!("{n} {filler}\n")).chain(["end\n".to_owned()]).collect();
    let mut keys = attached.keys.take().unwrap();
    let typing = std::thread::spawn(move || keys.write_all(text.as_bytes()));
    let told = attached.err.next().unwrap();
    assert_eq!(told, "[PM3][WARN] late: does not read its input, which is full: waiting until it reads");
    gate.write_all(b"x\n").unwrap();
    assert_eq!(world.told(""), "1000 lines");
    typing.join().unwrap().unwrap();
    world.end();
}

/// Has this terminal for its own, as what is started from a shell: ^C there is a signal for it.
pub(crate) fn owns_terminal(command: &mut Command, slave: &OwnedFd) {
    let fd = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(fd()).stdout(fd()).stderr(fd());
    let take = || {
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes a descriptor and a number; stdin is the terminal.
        nix::errno::Errno::result(unsafe { libc::ioctl(std::io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(take) };
}

#[test]
fn at_a_terminal_the_keys_for_an_interrupt_detach() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh --stdin pipe").ok();
    let pid = rows(&world)[0].pid;
    let (mut terminal, slave) = Terminal::open();
    let mut command = world.command(&["pm3", "attach", "echo"]);
    owns_terminal(&mut command, &slave);
    let mut child = command.spawn().unwrap();
    drop((command, slave));
    terminal.press("hello\n");
    terminal.expect("got hello");
    // ^D ends what is typed, not what is seen.
    terminal.press("\x04");
    world.pm3("send echo from elsewhere").ok();
    terminal.expect("got from elsewhere");
    terminal.press("\x03");
    assert!(!child.wait().unwrap().success());
    world.told("0 got hello");
    assert_eq!((statuses(&world), rows(&world)[0].pid), (vec!["echo online".to_owned()], pid));
    world.pm3("send echo still").ok();
    world.told("0 got still");
    world.end();
}

#[test]
fn a_signal_ends_attaching_and_nothing_else() {
    let mut world = world_with("echo.sh", ECHO);
    world.pm3("start echo.sh --stdin pipe").ok();
    let mut attached = Attached::new(&world, "echo");
    attached.types("one\n");
    assert_eq!(attached.out.next().unwrap(), "got one");
    let found = world.processes().into_iter().find(|process| process.line.ends_with("attach echo")).unwrap();
    world.signal(found.inside, Sig::TERM);
    assert!(!attached.child.wait().unwrap().success());
    world.pm3("send echo two").ok();
    world.told("0 got two");
    world.end();
}
