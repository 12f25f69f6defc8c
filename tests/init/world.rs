//! A directory with a file of apps in it, and `pm3 init` at work on that file.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use pm3::supervisor::event::{End, Sig};

use crate::common::deeds::Gate;
use crate::common::lines::Lines;
use crate::common::ns::{Ns, Proc};
use crate::common::{PATIENCE, PM3, this_binary};

/// A directory of the test's own, gone with it.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
}

impl World {
    pub(crate) fn new() -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pm3-world-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        World { dir }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).into_os_string().into_string().unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.join(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap()
    }

    /// The file that pm3 reads.
    pub(crate) fn plan(&self, text: &str) {
        self.write("pm3.toml", text);
    }

    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::new(self.path(name))
    }

    pub(crate) fn fifo(&self, name: &str) -> Fifo {
        let path = self.path(name);
        nix::unistd::mkfifo(path.as_str(), Mode::S_IRWXU).unwrap();
        Fifo { path }
    }

    /// The reading side of a FIFO for the word `hold`.
    pub(crate) fn holders(&self, name: &str) -> Lines {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Lines::new("holders", nix::fcntl::open(self.fifo(name).path.as_str(), flags, Mode::empty()).unwrap())
    }

    /// `pm3 init` at work on the plan.
    pub(crate) fn boot(&self, ns: Ns) -> Init {
        self.boot_with(ns, &[])
    }

    /// `pm3 init` with more words on its command line.
    pub(crate) fn boot_with(&self, ns: Ns, words: &[&str]) -> Init {
        self.boot_from(ns, &[&[&*self.path("pm3.toml")], words].concat())
    }

    /// `pm3 init` with these words alone.
    pub(crate) fn boot_from(&self, ns: Ns, words: &[&str]) -> Init {
        let ns = ns.env("PM3_HOME", self.dir.to_str().unwrap());
        // What apps say is read as they say it; the logger has tests of its own.
        let ns = ns.usually("PM3_LOG_MODE", "inherit");
        let ns = ns.unless_given(&["PM3_LOG", "RUST_LOG", "PORT", "WEB_CONCURRENCY"]);
        // A copy that others can execute is taken where there is one.
        let copy = self.path("pm3");
        let pm3 = if fs::exists(&copy).unwrap() { copy } else { PM3.to_owned() };
        let proc = ns.start(&[&[&*pm3, "init"], words].concat());
        Init { home: self.path(""), pm3, proc }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A FIFO that nobody holds open.
pub(crate) struct Fifo {
    path: String,
}

impl Fifo {
    /// The writing side, as soon as somebody reads.
    pub(crate) fn opened(self) -> File {
        // Opening waits for the reader, and nothing bounds that but another thread.
        let (send, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(File::options().write(true).open(self.path)));
        opened.recv_timeout(PATIENCE).expect("nobody opened the FIFO").unwrap()
    }
}

/// `pm3 init` at work.
pub(crate) struct Init {
    home: String,
    pm3: String,
    pub(crate) proc: Proc,
}

impl Init {
    /// The first of the next lines of pm3's log that contains this.
    #[track_caller]
    pub(crate) fn told(&mut self, part: &str) -> String {
        loop {
            let Some(line) = self.proc.err().next() else {
                panic!("pm3 did not say {part:?}, but: {:#?}", self.proc.err().taken)
            };
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The next line of pm3's log must be this one.
    #[track_caller]
    pub(crate) fn tells(&mut self, line: &str) {
        let Some(got) = self.proc.err().next() else { panic!("pm3's log ends before {line:?}") };
        assert_eq!(got, format!("[pm3] {line}"), "so far: {:#?}", self.proc.err().taken);
    }

    /// The pid, inside, of the next run that comes online.
    pub(crate) fn online(&mut self, who: &str) -> u32 {
        let line = self.told(&format!("{who}: online, pid "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until the apps have said this many lines, in any order; they are sorted.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = (0..count).map(|_| self.proc.line()).collect();
        lines.sort();
        lines
    }

    pub(crate) fn signal(&self, sig: Sig) {
        self.proc.signal(sig);
    }

    /// Signals a process that pm3 started, by its pid in there.
    pub(crate) fn signal_inside(&self, pid: u32, sig: Sig) {
        let number = sig.0.to_string();
        let (code, _, err) = self.proc.inside(&["/bin/sh", "-c", &format!("kill -{number} {pid}")], &[]);
        assert_eq!(code, 0, "{err:?}");
    }

    /// A verb, inside, with its code and its lines.
    pub(crate) fn pm3(&self, words: &[&str]) -> (i32, Vec<String>, Vec<String>) {
        self.proc.inside(&[&[&*self.pm3], words].concat(), &[("PM3_HOME", &self.home)])
    }

    /// A verb that goes on meanwhile.
    pub(crate) fn begins(&self, words: &[&str]) -> Child {
        let mut visitor = self.proc.visitor(&[&[&*self.pm3], words].concat());
        visitor.env("PM3_HOME", &self.home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        visitor.spawn().unwrap()
    }

    /// A verb that must succeed.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> Vec<String> {
        let (code, out, err) = self.pm3(words);
        assert_eq!((code, err), (0, vec![]), "pm3 {words:?}: {out:#?}");
        out
    }

    /// What `pm3 list` knows of an instance, by id.
    #[track_caller]
    pub(crate) fn row(&self, id: u64) -> serde_json::Value {
        let rows: serde_json::Value = serde_json::from_str(&self.does(&["list", "--json"]).concat()).unwrap();
        rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone()
    }

    /// The pid, inside, of an instance's main process.
    #[track_caller]
    pub(crate) fn pid(&self, id: u64) -> u32 {
        self.row(id)["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// Stops pm3 with TERM and returns the log from there on; it must end with this code.
    #[track_caller]
    pub(crate) fn stop(mut self, code: u8) -> Vec<String> {
        self.signal(Sig::TERM);
        self.ends(code)
    }

    /// pm3 ends by itself with this code; the rest of its log.
    #[track_caller]
    pub(crate) fn ends(&mut self, code: u8) -> Vec<String> {
        let end = self.proc.end();
        let rest = self.proc.err_rest();
        assert_eq!(end, End::Code(code), "{:#?}", self.proc.err().taken);
        rest
    }
}

/// An entry of the file: an app of this name that does these words, with more keys.
pub(crate) fn app(name: &str, words: &[&str], keys: &str) -> String {
    let args: Vec<&str> = ["app"].iter().chain(words).copied().collect();
    entry(name, &this_binary(), &args, keys)
}

/// An entry of the file.
pub(crate) fn entry(name: &str, script: &str, args: &[&str], keys: &str) -> String {
    format!("[[apps]]\nname = {name:?}\nscript = {script:?}\nargs = {args:?}\n{keys}\n")
}

/// As PID 1, and as a process among others.
pub(crate) fn both() -> [Ns; 2] {
    [Ns::pid1(), Ns::second()]
}

/// Some line contains this.
#[track_caller]
pub(crate) fn has(log: &[String], part: &str) {
    assert!(log.iter().any(|line| line.contains(part)), "no line with {part:?} in {log:#?}");
}

/// No line contains this.
#[track_caller]
pub(crate) fn has_not(log: &[String], part: &str) {
    assert!(!log.iter().any(|line| line.contains(part)), "a line with {part:?} in {log:#?}");
}
