//! Programs in namespaces of their own: a pid namespace, so that pm3 can be PID 1 and nothing survives the test, and a
//! mount namespace, so that `/proc` or `/dev` can be taken away. A user namespace gives the right to both without root.
//!
//! ```ignore
//! let mut pm3 = Ns::pid1().start(&[PM3, "run", "--", …]);
//! assert_eq!(pm3.line(), "ready");
//! pm3.signal(Sig::TERM);
//! assert_eq!(pm3.end(), End::Code(0));
//! ```
//!
//! Where the machine refuses user namespaces the test fails and says what to allow; it is never left out.

use std::env;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio, exit};
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Gid, Pid, Uid};
use pm3::supervisor::event::{End, Sig};

use super::lines::Lines;
use super::{PATIENCE, ROLE, app, this_binary};

/// The exit code of a part of the tests that is broken itself.
pub const BROKEN: i32 = 250;

/// Where the maker of the namespaces tells its test the pid and the end of the program.
const REPORT: &str = "PM3_TEST_REPORT";

/// How a program is to be started. Each setting is a word that the maker of the namespaces reads, see [`Setting`].
pub struct Ns {
    words: Vec<String>,
    envs: Vec<(String, Option<String>)>,
    stdio: Option<OwnedFd>,
}

impl Ns {
    /// The program is PID 1 of a new pid namespace.
    pub fn pid1() -> Ns {
        Ns { words: vec!["pid1".to_owned()], envs: Vec::new(), stdio: None }
    }

    /// The program is PID 2; its PID 1 does nothing, and is not its parent.
    pub fn second() -> Ns {
        Ns { words: vec!["second".to_owned()], envs: Vec::new(), stdio: None }
    }

    /// One more setting: `hide:/proc`, `hide:/dev` (an empty directory instead), `small:64:/path` (a disk of 64 kB),
    /// `readonly` (every mount of the root),
    /// `rooted` (no user namespace; for root), `poor:UID` (root's rights end before it), `nofile:SOFT:HARD`, `uid:1000`,
    /// `close:0` (an fd), `open:7:/path` (an fd), `ignore:CHLD`, `block:TERM`, `refuse:kill` (EPERM), `refuse:clone`
    /// (EAGAIN), `refuse:seccomp` (ENOSYS), `refuse:ipv6` (its sockets, EAFNOSUPPORT), `forbid:seccomp` (EPERM), `docker` (only the capabilities that Docker gives; with `rooted`).
    pub fn with(mut self, word: &str) -> Ns {
        self.words.push(word.to_owned());
        self
    }

    pub fn is_pid1(&self) -> bool {
        self.words[0] == "pid1"
    }

    /// Without these variables, unless they are given with [`env`](Ns::env): who runs the tests may have set them.
    pub fn unless_given(mut self, names: &[&str]) -> Ns {
        self.envs.splice(0..0, names.iter().map(|name| ((*name).to_owned(), None)));
        self
    }

    /// With this variable, unless it is given with [`env`](Ns::env).
    pub fn usually(mut self, name: &str, value: &str) -> Ns {
        self.envs.insert(0, (name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Without this variable.
    pub fn without(mut self, name: &str) -> Ns {
        self.envs.push((name.to_owned(), None));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Ns {
        self.envs.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// The program gets this terminal as its controlling one and as its stdin, stdout and stderr.
    pub fn terminal(mut self, slave: OwnedFd) -> Ns {
        self.words.push("terminal".to_owned());
        self.stdio = Some(slave);
        self
    }

    /// Starts `argv`. When this returns, the settings are made and the program is about to be executed.
    ///
    /// # Panics
    /// Where the namespaces are refused, with what to allow.
    pub fn start<S: AsRef<str>>(self, argv: &[S]) -> Proc {
        let (report, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut command = Command::new(this_binary());
        command.env(ROLE, "1").env(REPORT, theirs.as_raw_fd().to_string());
        for (name, value) in &self.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.arg("ns").args(&self.words).arg("--").args(argv.iter().map(AsRef::as_ref));
        match self.stdio {
            Some(slave) => command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave),
            None => command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        };
        let fd = theirs.as_raw_fd();
        // SAFETY: one fcntl in the child, which is async-signal-safe; the fd is open until the child was made.
        unsafe {
            command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            })
        };
        let mut maker = command.spawn().unwrap();
        drop(command);
        drop(theirs);
        let mut report = Lines::new("report of the namespace maker", report);
        let mut out = maker.stdout.take().map(|pipe| Lines::new("stdout", pipe));
        let mut err = maker.stderr.take().map(|pipe| Lines::new("stderr", pipe));
        let stdin = maker.stdin.take();
        let Some(pid) = report.next().and_then(|line| line.strip_prefix("pid ")?.parse().ok()) else {
            let said = [&mut out, &mut err].map(|lines| lines.as_mut().map(Lines::rest).unwrap_or_default());
            panic!("the program was not started: {}", said.concat().join("; "));
        };
        Proc { maker, report, pid, stdin, out, err }
    }
}

/// A program in its namespaces. Dropping it kills everything in them.
pub struct Proc {
    maker: Child,
    report: Lines,
    /// The program's pid, as seen from the test.
    pub pid: i32,
    pub stdin: Option<ChildStdin>,
    out: Option<Lines>,
    err: Option<Lines>,
}

impl Proc {
    /// The next line of its stdout.
    pub fn line(&mut self) -> String {
        match self.out.as_mut().unwrap().next() {
            Some(line) => line,
            None => panic!(
                "no more lines; stdout: {:#?}, stderr: {}",
                self.out.as_ref().unwrap().taken,
                self.err.as_mut().unwrap().so_far()
            ),
        }
    }

    /// The next line of stdout must be this one.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        let got = self.line();
        assert_eq!(got, line, "stderr: {}", self.err.as_mut().unwrap().so_far());
    }

    /// The next line of its stderr.
    pub fn err_line(&mut self) -> String {
        self.err.as_mut().unwrap().next().expect("stderr has ended")
    }

    /// Its stderr.
    pub fn err(&mut self) -> &mut Lines {
        self.err.as_mut().unwrap()
    }

    /// Nobody reads its stderr any more.
    pub fn close_err(&mut self) {
        self.err = None;
    }

    /// All further lines of stdout, until nobody holds it any more.
    pub fn rest(&mut self) -> Vec<String> {
        self.out.as_mut().unwrap().rest()
    }

    /// Its stdout.
    pub fn out(&mut self) -> &mut Lines {
        self.out.as_mut().unwrap()
    }

    /// All further lines of stderr, until nobody holds it any more.
    pub fn err_rest(&mut self) -> Vec<String> {
        self.err.as_mut().unwrap().rest()
    }

    /// Writes to its stdin.
    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a signal to the program, as somebody outside of its namespace.
    pub fn signal(&self, sig: Sig) {
        signal(self.pid, sig);
    }

    /// Waits until the program does nothing but wait in this system call, and returns its arguments, in hex. Nobody
    /// tells of it, so this asks again and again.
    pub fn idle_in(&self, call: libc::c_long) -> Vec<String> {
        self.idle_where(call, |_| true)
    }

    /// Waits until the program sleeps in a wait for signals that has no timeout.
    pub fn until_asleep(&self) {
        self.idle_where(libc::SYS_rt_sigtimedwait, |arguments| arguments[2] == "0x0");
    }

    fn idle_where(&self, call: libc::c_long, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap();
            let mut words = text.split_whitespace().map(str::to_owned);
            if words.next() == Some(call.to_string()) {
                let arguments: Vec<String> = words.collect();
                if is_it(&arguments) {
                    return arguments;
                }
            }
            assert!(Instant::now() < deadline, "not idle in system call {call}, but: {text}");
            std::thread::yield_now();
        }
    }

    /// Runs another program in its namespaces to the end: its code, and its lines.
    pub fn inside(&self, argv: &[&str], envs: &[(&str, &str)]) -> (i32, Vec<String>, Vec<String>) {
        let mut command = self.visitor(argv);
        command.envs(envs.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut visitor = command.spawn().unwrap();
        let out = Lines::new("stdout of the visitor", visitor.stdout.take().unwrap()).rest();
        let err = Lines::new("stderr of the visitor", visitor.stderr.take().unwrap()).rest();
        (visitor.wait().unwrap().code().unwrap(), out, err)
    }

    /// Another program in its namespaces, yet to be started. It needs [`ROLE`] in its environment.
    pub fn visitor(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(this_binary());
        command.arg("enter").arg(self.pid.to_string()).args(argv).env(ROLE, "1");
        command
    }

    /// Waits for the program's end. Its namespace is gone then.
    pub fn end(&mut self) -> End {
        let Some(line) = self.report.next() else { panic!("the namespace maker died") };
        let end = match line.split_once(' ') {
            Some(("code", code)) => End::Code(code.parse().unwrap()),
            Some(("signal", sig)) => End::Signal(Sig::parse(sig).unwrap()),
            other => panic!("the namespace maker says {other:?}"),
        };
        self.maker.wait().unwrap();
        end
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        // Killing a process that has been waited for is refused by the standard library, so no other one is hit.
        let _ = self.maker.kill();
        let _ = self.maker.wait();
    }
}

/// kill(2), for realtime signals too. The process must be there.
#[track_caller]
pub fn signal(pid: i32, sig: Sig) {
    // SAFETY: kill takes two numbers.
    let result = unsafe { libc::kill(pid, libc::c_int::from(sig.0)) };
    assert_eq!(result, 0, "kill {pid} {sig}: {}", std::io::Error::last_os_error());
}

/// A word about how to start the program.
enum Setting {
    Hide(String),
    /// A disk of so many kB there.
    Small(u32, String),
    ReadOnly,
    /// Without a user namespace, which only root can.
    Rooted,
    /// To the outside a user of no rights with this uid, if it is root that runs the tests; 0 or [`Uid`](Setting::Uid) inside.
    Poor(u32),
    Uid(u32),
    Close(i32),
    Open(i32, String),
    /// The limit of open files, soft and hard.
    Nofile(u64, u64),
    Ignore(Sig),
    Block(Sig),
    /// A system call answers this errno, here and in all descendants.
    Refuse(libc::c_long, Option<libc::c_int>, u16),
    Terminal,
    /// With the capabilities that Docker gives.
    Docker,
}

impl Setting {
    fn parse(word: &str) -> Option<Setting> {
        Some(match word.split_once(':').unwrap_or((word, "")) {
            ("hide", path) => Setting::Hide(path.to_owned()),
            ("small", rest) => {
                let (size, path) = rest.split_once(':')?;
                Setting::Small(size.parse().ok()?, path.to_owned())
            }
            ("readonly", "") => Setting::ReadOnly,
            ("rooted", "") => Setting::Rooted,
            ("poor", uid) => Setting::Poor(uid.parse().ok()?),
            ("uid", uid) => Setting::Uid(uid.parse().ok()?),
            ("close", fd) => Setting::Close(fd.parse().ok()?),
            ("open", rest) => {
                let (fd, path) = rest.split_once(':')?;
                Setting::Open(fd.parse().ok()?, path.to_owned())
            }
            ("nofile", limits) => {
                let (soft, hard) = limits.split_once(':')?;
                Setting::Nofile(soft.parse().ok()?, hard.parse().ok()?)
            }
            ("ignore", sig) => Setting::Ignore(Sig::parse(sig)?),
            ("block", sig) => Setting::Block(Sig::parse(sig)?),
            ("refuse", "kill") => Setting::Refuse(libc::SYS_kill, None, libc::EPERM as u16),
            ("refuse", "ipv6") => Setting::Refuse(libc::SYS_socket, Some(libc::AF_INET6), libc::EAFNOSUPPORT as u16),
            ("refuse", "seccomp") => Setting::Refuse(libc::SYS_seccomp, None, libc::ENOSYS as u16),
            ("forbid", "seccomp") => Setting::Refuse(libc::SYS_seccomp, None, libc::EPERM as u16),
            ("refuse", "clone") => Setting::Refuse(libc::SYS_clone, None, libc::EAGAIN as u16),
            ("terminal", "") => Setting::Terminal,
            ("docker", "") => Setting::Docker,
            _ => return None,
        })
    }
}

/// The part of the namespace maker: `(pid1 | second) SETTING… -- PROGRAM ARGUMENT…`.
pub fn main(words: &[String]) -> ! {
    let report: i32 = env::var(REPORT).ok().and_then(|fd| fd.parse().ok()).unwrap_or_else(|| broken("no report fd"));
    // SAFETY: the test opened it for this process alone.
    let mut report = fs::File::from(unsafe { OwnedFd::from_raw_fd(report) });
    check("fcntl", fcntl(&report, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)));
    // SAFETY: there is one thread.
    unsafe { env::remove_var(REPORT) };
    die_with_parent();

    let mut parts = words.splitn(2, |word| word == "--");
    let (Some([kind, settings @ ..]), Some(argv)) = (parts.next(), parts.next()) else { broken("bad words") };
    let settings: Vec<Setting> = settings
        .iter()
        .map(|word| Setting::parse(word).unwrap_or_else(|| broken(&format!("bad setting {word}"))))
        .collect();
    enter(&settings);
    let pid = fork_and_wait(|tell| {
        arrange_mounts(&settings);
        if kind == "pid1" {
            become_program(&settings, argv, tell);
        }
        tell();
        loop {
            nix::unistd::pause();
        }
    });
    let pid = if kind == "pid1" { pid } else { fork_and_wait(|tell| become_program(&settings, argv, tell)) };
    // The end of these pipes is the program's business alone from here on.
    for fd in 0..3 {
        let _ = nix::unistd::close(fd);
    }
    let _ = writeln!(report, "pid {pid}");
    let _ = report.write_all(format!("{}\n", wait_for(pid)).as_bytes());
    exit(0)
}

/// Forks, and waits until the child tells that it is as it should be. It ends with this process.
fn fork_and_wait(child: impl FnOnce(&dyn Fn())) -> Pid {
    let (told, telling) = check("pipe", nix::unistd::pipe2(OFlag::O_CLOEXEC));
    // SAFETY: there is one thread, so the child may do anything.
    match check("fork", unsafe { nix::unistd::fork() }) {
        ForkResult::Child => {
            die_with_parent();
            child(&|| {
                check("write", nix::unistd::write(&telling, b"."));
            });
            exit(BROKEN)
        }
        ForkResult::Parent { child } => {
            drop(telling);
            if check("read", nix::unistd::read(&told, &mut [0])) == 0 {
                exit(BROKEN); // The child has said why.
            }
            child
        }
    }
}

/// New namespaces. A user namespace gives the right to the others; root can do without where only that one is refused.
fn enter(settings: &[Setting]) {
    for setting in settings {
        if let Setting::Poor(uid) = setting {
            become_poor(*uid);
        }
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let rest = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    if settings.iter().any(|setting| matches!(setting, Setting::Rooted)) {
        return check("unshare", unshare(rest));
    }
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | rest) {
        if !uid.is_root() || unshare(rest).is_err() {
            broken(&format!(
                "these tests need user namespaces, and unshare(2) says: {}. Allow them: `sysctl -w \
                 user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 \
                 kernel.apparmor_restrict_unprivileged_userns=0` (what of it exists), or in a container: \
                 `--security-opt seccomp=unconfined`",
                errno.desc()
            ));
        }
        return;
    }
    let inside = settings.iter().find_map(|setting| if let Setting::Uid(uid) = setting { Some(*uid) } else { None });
    let inside = inside.unwrap_or(0);
    check("setgroups", fs::write("/proc/self/setgroups", "deny"));
    check("uid_map", fs::write("/proc/self/uid_map", format!("{inside} {uid} 1")));
    check("gid_map", fs::write("/proc/self/gid_map", format!("{inside} {gid} 1")));
}

/// Gives root's rights up for good, if there are any. Rights over itself, and whom to die with, are forgotten with that.
pub fn become_poor(uid: u32) {
    if nix::unistd::geteuid().is_root() {
        check("setgroups", nix::unistd::setgroups(&[]));
        check("setgid", nix::unistd::setgid(Gid::from_raw(uid)));
        check("setuid", nix::unistd::setuid(Uid::from_raw(uid)));
        check("dumpable", nix::sys::prctl::set_dumpable(true));
        die_with_parent();
    }
}

/// A `/proc` of the new pid namespace, and what the settings hide. Runs in its PID 1.
fn arrange_mounts(settings: &[Setting]) {
    let none = None::<&str>;
    check("mount --make-rprivate /", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none));
    if let Err(errno) = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none) {
        broken(&format!(
            "these tests mount /proc in their own pid namespace, and mount(2) says: {}. In a container: \
             `--security-opt unmask=ALL` (podman) or `systempaths=unconfined` (docker)",
            errno.desc()
        ));
    }
    for setting in settings {
        let (path, options) = if let Setting::Hide(path) = setting {
            (path, None)
        } else if let Setting::Small(size, path) = setting {
            (path, Some(format!("size={size}k")))
        } else {
            continue;
        };
        let options = options.as_deref();
        check("mount tmpfs", mount(Some("tmpfs"), path.as_str(), Some("tmpfs"), MsFlags::empty(), options));
    }
    if settings.iter().any(|setting| matches!(setting, Setting::ReadOnly)) {
        // The flags that came from outside of the user namespace are locked: they must be given again.
        let keep = check("statvfs", nix::sys::statvfs::statvfs("/")).flags();
        let keep = MsFlags::from_bits_truncate(keep.bits());
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | keep;
        check("mount -o remount,ro /", mount(none, "/", none, flags, none));
    }
}

/// The settings of the process itself, then the program. It gets the first three files and what the settings open.
fn become_program(settings: &[Setting], argv: &[String], tell: &dyn Fn()) -> ! {
    // SAFETY: takes three numbers; what is open closes when the program is executed, not before.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == -1 {
        broken("close_range");
    }
    // Whoever runs the tests may ignore some; libc would hide 32 and 33.
    let default = [0usize; 4];
    for number in 1..=64 {
        let (none, size) = (std::ptr::null_mut::<[usize; 4]>(), size_of::<u64>());
        // SAFETY: all zero is the kernel's struct sigaction for SIG_DFL; KILL and STOP refuse.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const default, none, size) };
    }
    for setting in settings {
        match setting {
            Setting::Hide(_) | Setting::Small(..) | Setting::ReadOnly | Setting::Rooted | Setting::Poor(_) => {}
            Setting::Uid(uid) => {
                // Inside a user namespace this is the uid already.
                check("setresgid", nix::unistd::setgid(Gid::from_raw(*uid)));
                check("setresuid", nix::unistd::setuid(Uid::from_raw(*uid)));
                // Changing ids forgets whom to die with.
                die_with_parent();
            }
            Setting::Close(fd) => check("close", nix::unistd::close(*fd)),
            Setting::Open(fd, path) => {
                let file = check("open", fs::File::open(path));
                // SAFETY: makes a new fd of a number that nothing here owns.
                if unsafe { libc::dup2(file.as_raw_fd(), *fd) } == -1 {
                    broken("dup2");
                }
            }
            Setting::Nofile(soft, hard) => check("setrlimit", setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard)),
            Setting::Ignore(sig) => {
                let (ignore, none) = ([libc::SIG_IGN, 0, 0, 0], std::ptr::null_mut::<[usize; 4]>());
                let (number, size) = (libc::c_int::from(sig.0), size_of::<u64>());
                // SAFETY: this is the kernel's struct sigaction for SIG_IGN; the old one is not asked for.
                if unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const ignore, none, size) } == -1 {
                    broken("rt_sigaction");
                }
            }
            Setting::Block(sig) => {
                let (set, none, size) = (1u64 << (sig.0 - 1), std::ptr::null_mut::<u64>(), size_of::<u64>());
                // SAFETY: the set is a kernel's one, and the old one is not asked for.
                unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, none, size) };
            }
            Setting::Docker => keep_dockers_capabilities(),
            Setting::Refuse(call, first, errno) => refuse(*call, *first, *errno),
            Setting::Terminal => {
                check("setsid", nix::unistd::setsid());
                // SAFETY: takes two numbers.
                if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } == -1 {
                    broken("TIOCSCTTY");
                }
            }
        }
    }
    tell();
    app::exec(argv)
}

/// What remains after the next exec (capabilities(7), the bounding set).
fn keep_dockers_capabilities() {
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
    // SETFCAP
    const KEPT: [libc::c_ulong; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    for capability in (0..64).filter(|capability| !KEPT.contains(capability)) {
        // SAFETY: PR_CAPBSET_DROP takes a number; one that the kernel does not know is an error and no more.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// A seccomp filter that lets everything through but one system call.
fn refuse(call: libc::c_long, first: Option<libc::c_int>, errno: u16) {
    let step = |code: u32, k: u32, skip: u8| libc::sock_filter { code: code as u16, jt: 0, jf: skip, k };
    let (load, equal) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    // Of a call's first argument the lower half; anything is equal to itself.
    let (at, first) = first.map_or((0, call as u32), |first| (16, first as u32));
    let mut filter = [
        // The number of the call is the first word of what the filter is given.
        step(load, 0, 0),
        step(equal, call as u32, 3),
        step(load, at, 0),
        step(equal, first, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | u32::from(errno), 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    check("no_new_privs", nix::sys::prctl::set_no_new_privs());
    // SAFETY: the program points to so many steps, which the kernel copies.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } == -1 {
        broken(&format!("seccomp: {}", std::io::Error::last_os_error()));
    }
}

/// Waits for this one child, and says how it ended.
fn wait_for(pid: Pid) -> String {
    loop {
        match nix::sys::wait::waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return format!("code {code}"),
            Ok(WaitStatus::Signaled(_, sig, _)) => return format!("signal {}", sig as i32),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => broken(&format!("waitpid: {errno}")),
        }
    }
}

/// The kernel kills this process when its parent dies.
pub fn die_with_parent() {
    check("prctl", nix::sys::prctl::set_pdeathsig(Signal::SIGKILL));
}

fn check<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| broken(&format!("{what}: {error}")))
}

/// The tests' own machinery does not work here.
pub fn broken(why: &str) -> ! {
    eprintln!("test set-up: {why}");
    exit(BROKEN)
}
