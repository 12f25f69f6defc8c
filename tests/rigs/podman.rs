//! Containers from the image that the Containerfile builds, under a podman of the tests' own.
//!
//! All of podman's state (images, containers, locks, sockets) lies in one directory made for this run, so nothing of the
//! user's is seen or touched. A janitor process clears it away: it waits for the end of a pipe that only the test binary
//! holds, so it works however the tests end. Nothing is pulled, and no container has a network.
//!
//! There is no shell in the image. The test binary is mounted as `/app`, and plays the program that pm3 is given to run
//! (`common::app`): it is static, as pm3 is.

use std::fs;
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::resource::{Resource, getrlimit};

use super::common::lines::Lines;
use super::common::{ROLE, needs, this_binary};

/// The image that the Containerfile makes.
pub const IMAGE: &str = "localhost/pm3";

/// Podman with its own state, and the image in it.
pub struct Rig {
    root: PathBuf,
    podman: PathBuf,
    /// The janitor comes when this is closed: at the end of the test binary.
    _alive: OwnedFd,
}

/// The one rig of this run, made by the first test that asks; None where podman is missing (told as not run).
pub fn rig() -> Option<&'static Rig> {
    static RIG: OnceLock<Result<Rig, String>> = OnceLock::new();
    let podman = needs("podman", 1)?;
    match RIG.get_or_init(|| Rig::new(podman)) {
        Ok(rig) => Some(rig),
        Err(why) => panic!("the rig cannot be set up: {why}"),
    }
}

impl Rig {
    fn new(podman: PathBuf) -> Result<Rig, String> {
        // Podman puts sockets below, and their paths may have 107 bytes: so it is short.
        let root = std::env::temp_dir().join(format!("pm3-rig-{}", std::process::id()));
        fs::create_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let dir = root.to_str().ok_or("the directory for temporary files is not UTF-8")?;
        // crun, podman's own choice, fails where cgroups are of both versions.
        let runtime = needs("runc", 0).map_or("", |_| "runtime = \"runc\"\n");
        // Without a word podman asks for more than a test machine's root may have, or than podman leaves to itself.
        let limits = [("nofile", Resource::RLIMIT_NOFILE), ("nproc", Resource::RLIMIT_NPROC)];
        let limits = limits.map(|(name, resource)| {
            let most = getrlimit(resource).map_or(1024, |(_, hard)| hard.min(16384));
            format!("\"{name}={most}:{most}\"")
        });
        let engine = format!(
            "[containers]\ndefault_ulimits = [{}]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n{runtime}\
             lock_type = \"file\"\ntmp_dir = \"{dir}/tmp\"\n\
             [network]\nnetwork_config_dir = \"{dir}/net\"\n",
            limits.join(", ")
        );
        let storage =
            format!("[storage]\ndriver = \"overlay\"\nrunroot = \"{dir}/run\"\ngraphroot = \"{dir}/graph\"\n");
        for (name, text) in [("containers.conf", engine), ("storage.conf", storage)] {
            fs::write(root.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let alive = hire_janitor(&podman, &root).map_err(|error| format!("the janitor: {error}"))?;
        let rig = Rig { root, podman, _alive: alive };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs/image");
        let built = rig.environment(Command::new(script)).arg(IMAGE).output().map_err(|error| error.to_string())?;
        if built.status.success() { Ok(rig) } else { Err(text(&built)) }
    }

    fn environment(&self, mut command: Command) -> Command {
        set_environment(&mut command, &self.root);
        // On an OOM kill podman's monitor leaves a file in the directory that it was started in.
        command.stdin(Stdio::null()).current_dir(&self.root);
        command
    }

    /// `podman` with these arguments, to its end.
    pub fn podman(&self, arguments: &[&str]) -> Output {
        self.environment(Command::new(&self.podman)).args(arguments).output().unwrap()
    }

    /// The same, and it must work; returns its stdout without the last line end.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.podman(arguments);
        assert!(output.status.success(), "podman {}: {}", arguments.join(" "), text(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A container of the image: `options` are for `podman run`, `command` is what pm3 gets.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Container<'_> {
        self.start(Stdio::null(), options, IMAGE, command)
    }

    /// The same, of any image, and with something else than /dev/null as podman's stdin.
    pub fn start(&self, stdin: impl Into<Stdio>, options: &[&str], image: &str, command: &[&str]) -> Container<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rig-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (out, their_out) = pipe().unwrap();
        let (err, their_err) = pipe().unwrap();
        let mut podman = self.environment(Command::new(&self.podman));
        podman.args(["run", "--name", &name, "--network", "none", "--volume"]);
        podman.arg(format!("{}:/app:ro", this_binary())).args(["--env", &format!("{ROLE}=1")]);
        podman.args(options).arg(image).args(command);
        let process = podman.stdin(stdin).stdout(their_out).stderr(their_err).spawn().unwrap();
        Container { rig: self, name, process, out: Lines::new("stdout", out), err: Lines::new("stderr", err) }
    }

    /// A file for a test to mount, readable by everybody.
    pub fn file(&self, text: &str) -> String {
        let path = self.directory().join("file");
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// An empty directory.
    pub fn directory(&self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = self.root.join(format!("dir-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap();
        path
    }
}

fn set_environment(command: &mut Command, root: &Path) {
    command.env("CONTAINERS_CONF", root.join("containers.conf"));
    command.env("CONTAINERS_STORAGE_CONF", root.join("storage.conf"));
}

/// Starts the process that removes the rig once the returned pipe is closed. It is in a session of its own, so that ^C
/// at the tests does not end it too.
fn hire_janitor(podman: &Path, root: &Path) -> std::io::Result<OwnedFd> {
    let (gone, alive) = pipe()?;
    let mut janitor = Command::new("/bin/sh");
    janitor.args(["-c", r#"cat; "$0" system reset --force >/dev/null; rm -rf "$1""#]).arg(podman).arg(root);
    set_environment(&mut janitor, root);
    janitor.stdin(gone).stdout(Stdio::null());
    // SAFETY: setsid is async-signal-safe, and takes nothing.
    unsafe { janitor.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    janitor.spawn()?;
    alive.as_fd().try_clone_to_owned()
}

/// What a program said, for a panic message.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A container and the `podman run` that is attached to it. Dropping it removes both.
pub struct Container<'a> {
    rig: &'a Rig,
    pub name: String,
    process: Child,
    pub out: Lines,
    pub err: Lines,
}

impl Container<'_> {
    /// The next line of stdout must be this one.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        match self.out.next() {
            Some(got) => assert_eq!(got, line, "stderr: {}", self.err.so_far()),
            None => panic!("{line:?} did not come; stderr: {}", self.err.so_far()),
        }
    }

    /// Reads stderr up to the line that has this text in it, and returns that line.
    #[track_caller]
    pub fn told(&mut self, text: &str) -> String {
        loop {
            match self.err.next() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => panic!("{text:?} did not come on stderr: {:#?}", self.err.taken),
            }
        }
    }

    /// `podman stop`: the stop signal, and SIGKILL to the whole container once the grace is over.
    pub fn stop(&self, grace_seconds: u32) {
        self.rig.ask(&["stop", "--time", &grace_seconds.to_string(), &self.name]);
    }

    /// `podman kill --signal`.
    pub fn kill(&self, signal: &str) {
        self.rig.ask(&["kill", "--signal", signal, &self.name]);
    }

    /// Lets the container have this many processes from now on.
    pub fn allow_pids(&self, count: u32) {
        let id = self.rig.ask(&["inspect", "--format", "{{.Id}}", &self.name]);
        let runtime = self.rig.ask(&["inspect", "--format", "{{.OCIRuntime}}", &self.name]);
        let done = Command::new(runtime).args(["update", "--pids-limit", &count.to_string(), &id]).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
    }

    /// `podman exec`: what a person or a probe runs inside; options before the command.
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Output {
        self.rig.podman(&[&["exec"], options, &[&self.name], command].concat())
    }

    /// Waits for the container's end: its exit code.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        // Both end when podman does, and these waits are bounded.
        self.out.rest();
        self.err.rest();
        self.process.wait().unwrap().code().expect("podman was killed")
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.rig.podman(&["rm", "--force", "--time", "0", "--ignore", &self.name]);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
