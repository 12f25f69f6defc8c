//! What init does about itself: its standard descriptors, its own lines, its place; and the parts that this program
//! plays when a test starts it once more.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::stat::SFlag;
use nix::unistd::ForkResult;
use pm3::supervisor::event::{End, Sig};
use pm3::sys::say::{self, Say};
use pm3::sys::spawn::{self, KeepFds, Plan};
use pm3::sys::{fds, memory, place, signals};

use crate::alone::part;
use crate::world::{World, actor, enter_root, executed, program};

crate::tests![TESTS:
    closed_descriptors_are_mended,
    closed_descriptors_are_mended_without_dev,
    inherited_descriptors_are_closed_and_ours_are_not,
    a_full_pipe_loses_lines_and_tells,
    a_line_that_was_cut_is_finished_first,
    a_socket_does_not_block,
    a_file_is_not_written_over,
    a_closed_pipe_is_no_error,
    our_place_is_known,
    unused_pages_of_the_program_are_let_go,
];

crate::tests![PARTS:
    a_parent_that_dies,
    prints_what_it_inherited,
    reaps_a_child,
    closes_and_executes,
    looks_at_its_own,
    shares_memory,
];

/// Starts a program that the next one dies with, and tells its pid.
fn a_parent_that_dies() {
    signals::block_all();
    let child = spawn::spawn(&Plan { pdeathsig: Some(Sig::USR1), ..actor(&["pause"]) }).unwrap();
    executed(&child).unwrap();
    println!("{}", child.pid);
}

fn prints_what_it_inherited() {
    let inherited = signals::inherited();
    println!("{:x} {:x}", inherited.mask, inherited.ignored);
}

fn reaps_a_child() {
    let mut world = World::new();
    let child = spawn::spawn(&actor(&["exit:7"])).unwrap();
    println!("{}", world.end(child.pid));
}

/// Closes 0, 1 and 2 and executes `looks_at_its_own`, in a root without files if told so.
fn closes_and_executes() {
    let this = File::open("/proc/self/exe").unwrap();
    let argv = part("looks_at_its_own").map(|word| CString::new(word).unwrap());
    if let Some(root) = std::env::var_os("ROOT") {
        enter_root(root.as_ref());
    }
    for fd in 0..3 {
        nix::unistd::close(fd).unwrap();
    }
    let Err(errno) = nix::unistd::execveat(&this, c"", &argv, &[] as &[CString], AtFlags::AT_EMPTY_PATH);
    panic!("exec: {errno}");
}

/// Writes to descriptor 9 what 0, 1 and 2 are, and whether the next file gets a higher number.
fn looks_at_its_own() {
    // SAFETY: the test opened it for this process alone.
    let mut report = unsafe { File::from_raw_fd(9) };
    for fd in 0..3 {
        // SAFETY: if the number is not open, fstat says so.
        let stat = nix::sys::stat::fstat(unsafe { BorrowedFd::borrow_raw(fd) });
        let kind = match SFlag::from_bits_truncate(stat.unwrap().st_mode) & SFlag::S_IFMT {
            SFlag::S_IFCHR => "device",
            SFlag::S_IFDIR => "directory",
            SFlag::S_IFIFO => "pipe",
            _ => "other",
        };
        writeln!(report, "{fd} {kind}").unwrap();
    }
    let mut buffer = [0; 1];
    writeln!(report, "{:?}", nix::unistd::read(std::io::stdin(), &mut buffer)).unwrap();
    writeln!(report, "{:?}", nix::unistd::write(std::io::stdout(), b"lost")).unwrap();
    writeln!(report, "next above 2: {}", File::open("/").unwrap().as_raw_fd() > 2).unwrap();
}

/// Holds 64 MiB that it shares with two children, and tells their pids.
fn shares_memory() {
    let block = vec![1u8; 64 << 20];
    for _ in 0..2 {
        // SAFETY: there is one thread, so the child may do anything.
        if let ForkResult::Parent { child } = unsafe { nix::unistd::fork() }.unwrap() {
            println!("{child}");
        } else {
            nix::unistd::pause();
        }
    }
    nix::unistd::pause();
    println!("{}", block.len());
}

/// What `looks_at_its_own` finds.
fn own_descriptors(root: Option<&str>) -> String {
    let mut world = World::new();
    let path = world.path("report");
    let report = File::create(&path).unwrap();
    // SAFETY: dup2 takes numbers; 9 is for nobody else.
    assert_eq!(unsafe { libc::dup2(report.as_raw_fd(), 9) }, 9);
    let mut plan = Plan { keep_fds: KeepFds::Inherited, ..program(&part("closes_and_executes")) };
    if let Some(root) = root {
        let root = world.path(root);
        fs::create_dir(&root).unwrap();
        plan.env.push(CString::new(format!("ROOT={}", root.display())).unwrap());
    }
    let run = world.start(plan);
    assert_eq!(world.end(run.pid), End::Code(0));
    fs::read_to_string(path).unwrap()
}

fn closed_descriptors_are_mended() {
    let devices = "0 device\n1 device\n2 device\nOk(0)\nOk(4)\nnext above 2: true\n";
    assert_eq!(own_descriptors(None), devices);
}

fn closed_descriptors_are_mended_without_dev() {
    let stand_ins = "0 pipe\n1 directory\n2 directory\nOk(0)\nErr(EBADF)\nnext above 2: true\n";
    assert_eq!(own_descriptors(Some("empty")), stand_ins);
}

fn inherited_descriptors_are_closed_and_ours_are_not() {
    let world = World::new();
    let file = File::open("/").unwrap();
    for number in [60, 300] {
        assert_eq!(fcntl(&file, FcntlArg::F_DUPFD(number)).unwrap(), number);
    }
    fds::close_inherited();
    // SAFETY: F_GETFD takes a number; one that is not open is an error.
    let is_open = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    assert!(!is_open(60) && !is_open(300));
    assert!(is_open(0) && is_open(1) && is_open(2) && is_open(file.as_raw_fd()));
    assert!(is_open(world.signals.as_raw_fd()));
    fds::set_cloexec(file.as_fd(), false).unwrap();
    fds::close_inherited();
    assert!(!is_open(file.into_raw_fd()));
}

/// Makes `fd` this process's standard error. What a failing test says then goes to standard output.
fn say_to(fd: impl AsFd) -> Say {
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    nix::unistd::dup2_stderr(fd).unwrap();
    say::stderr()
}

/// A pipe that holds one page.
fn small_pipe() -> (File, OwnedFd) {
    let (read, write) = nix::unistd::pipe().unwrap();
    assert_eq!(fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap(), 4096);
    (File::from(read), write)
}

/// What is in the pipe now.
fn drain(pipe: &mut File) -> String {
    let mut text = vec![0; 1 << 16];
    let len = pipe.read(&mut text).unwrap();
    String::from_utf8(text[..len].to_vec()).unwrap()
}

fn line(letter: char, len: usize) -> String {
    letter.to_string().repeat(len - 1) + "\n"
}

fn a_full_pipe_loses_lines_and_tells() {
    let (mut pipe, stderr) = small_pipe();
    let mut say = say_to(stderr);
    say.write_all(line('a', 4000).as_bytes()).unwrap();
    for _ in 0..3 {
        say.write_all(line('b', 200).as_bytes()).unwrap();
    }
    assert_eq!(drain(&mut pipe), line('a', 4000));
    say.write_all(b"c\n").unwrap();
    say.write_all(b"d\n").unwrap();
    assert_eq!(drain(&mut pipe), "[pm3] warn: 3 lines were lost, stderr did not take them\nc\nd\n");
    // The description that the apps share is as it was.
    let flags = OFlag::from_bits_retain(fcntl(std::io::stderr(), FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
}

fn a_line_that_was_cut_is_finished_first() {
    let (mut pipe, stderr) = small_pipe();
    let mut say = say_to(stderr);
    say.write_all(line('a', 6000).as_bytes()).unwrap();
    say.write_all(b"lost\n").unwrap();
    let mut text = drain(&mut pipe);
    say.write_all(b"b\n").unwrap();
    text += &drain(&mut pipe);
    assert_eq!(text, line('a', 6000) + "[pm3] warn: 1 line was lost, stderr did not take them\nb\n");
    say.write_all(line('x', 100_000).as_bytes()).unwrap();
    let mut text = drain(&mut pipe);
    while !text.ends_with('\n') {
        say.flush().unwrap();
        text += &drain(&mut pipe);
    }
    assert_eq!(text.len(), (16 << 10) + 1);
}

fn a_socket_does_not_block() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut say = say_to(theirs);
    let sent = 200;
    for _ in 0..sent {
        say.write_all(line('a', 8000).as_bytes()).unwrap();
    }
    ours.set_nonblocking(true).unwrap();
    let mut text = String::new();
    let _ = ours.read_to_string(&mut text);
    say.write_all(b"end\n").unwrap();
    let _ = ours.read_to_string(&mut text);
    let whole = text.lines().filter(|text| format!("{text}\n") == line('a', 8000)).count();
    assert!(0 < whole && whole < sent);
    let told = format!("[pm3] warn: {} lines were lost, stderr did not take them\nend\n", sent - whole);
    assert!(text.ends_with(&told), "{told:?} is not the end of {:?}", &text[text.len() - 100..]);
}

fn a_file_is_not_written_over() {
    let world = World::new();
    let path = world.path("log");
    // As a shell's `2>log` does: not for appending.
    let mut file = File::create(&path).unwrap();
    let mut say = say_to(&file);
    say.write_all(b"pm3: one\n").unwrap();
    file.write_all(b"an app\n").unwrap();
    say.write_all(b"pm3: two\n").unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "pm3: one\nan app\npm3: two\n");
}

fn a_closed_pipe_is_no_error() {
    let world = World::new();
    let (pipe, stderr) = small_pipe();
    let mut say = say_to(stderr);
    drop(pipe);
    for _ in 0..10 {
        say.write_all(b"nobody listens\n").unwrap();
        say.flush().unwrap();
    }
    // The SIGPIPE of our own writing is for nobody; one from outside is.
    let mut received = vec![];
    world.signals.read_all(&mut received).unwrap();
    assert_eq!(received, []);
}

fn our_place_is_known() {
    assert!(place::has_own_proc());
    assert_eq!(place::is_pid_1(), std::process::id() == 1);
    assert!(place::pid_namespace().is_some_and(|inode| inode > 0));
}

fn unused_pages_of_the_program_are_let_go() {
    let resident_of_files = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(2).unwrap().parse::<usize>().unwrap()
    };
    // Code and constants come back, whatever they are, and relocated ones were never gone.
    let before = (resident_of_files(), format!("{:?}", std::env::args().collect::<Vec<_>>()));
    memory::drop_text();
    let after = resident_of_files();
    assert!(after * 3 < before.0 * 2, "{after} of {}", before.0);
    assert_eq!(format!("{:?}", std::env::args().collect::<Vec<_>>()), before.1);
    memory::trim();
}
