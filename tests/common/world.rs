//! The two places where people type pm3's commands, each in namespaces of its own, so that nothing outlives a test:
//!
//! - [`World::container`]: pm3 is PID 1, as the entry point of a container; commands come as with `docker exec`.
//! - [`World::bare`]: a machine whose PID 1 is somebody else. The first command starts a supervisor in the background,
//!   with a `PM3_HOME` of this world, and [`World::end`] ends it with `pm3 kill` and checks that nobody is left.
//!
//! Commands run in the folder `work` of the world's directory, with a small environment: `PATH` with pm3 in it, `HOME`,
//! `TELL`, and what [`World::set`] adds. Apps tell what happens to them by writing lines to `$TELL`, a named pipe that [`World::told`] reads: so a test
//! waits for the event itself and never for a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::stat::Mode;
use pm3::supervisor::event::{End, Sig};

use super::dir::Dir;
use super::lines::Lines;
use super::ns::{Ns, Proc, signal};
use super::{PATIENCE, PM3, app};

/// What a command said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub line: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Said {
        self.ends(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// This stands somewhere in what it printed, on stdout or stderr.
    #[track_caller]
    pub fn says(self, text: &str) -> Said {
        assert!(self.out.contains(text) || self.err.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// This does not.
    #[track_caller]
    pub fn lacks(self, text: &str) -> Said {
        assert!(!self.out.contains(text) && !self.err.contains(text), "{text:?} is in {self:#?}");
        self
    }
}

/// What follows `name=` in a line that an app told.
#[track_caller]
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let mut fields = line.split(' ').filter_map(|word| word.split_once('='));
    fields.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name}= in {line:?}")).1
}

/// A place with a supervisor, or with one to come.
pub struct World {
    init: Proc,
    told: Lines,
    kept: Vec<String>,
    env: BTreeMap<String, String>,
    bare: bool,
    typed: RefCell<Vec<String>>,
    // Last, as it is removed when nobody writes to it any more.
    dir: Dir,
}

impl World {
    /// pm3 is PID 1, with an empty plan that does not end by itself.
    pub fn container() -> World {
        World::container_with("")
    }

    /// pm3 is PID 1, with these apps.
    pub fn container_with(apps: &str) -> World {
        let dir = Dir::new();
        let file = dir.file("container.toml", &format!("[pm3]\nexit_policy = \"never\"\n{apps}"));
        // Containers do not share /run, where the socket of root's pm3 is.
        let ns = Ns::pid1().with("hide:/run").unless_given(&["PM3_HOME", "PM3_CONFIG", "DYNO"]).env("HOME", dir.path());
        let mut init = ns.start(&[PM3, "init", &file]);
        // This line comes once clients can connect. Before it may come that /run has another one's socket.
        while !init.err_line().starts_with("[pm3] pm3 ") {}
        World::made(dir, init, false)
    }

    /// PID 1 does nothing but reap, and no pm3 is there.
    pub fn bare() -> World {
        World::bare_in(Ns::pid1())
    }

    /// The same with settings: as another user, say.
    pub fn bare_in(ns: Ns) -> World {
        let init = ns.start(&app(&["deaf", "pause"]));
        World::made(Dir::new(), init, true)
    }

    fn made(dir: Dir, init: Proc, bare: bool) -> World {
        let pipe = dir.at("tell");
        nix::unistd::mkfifo(pipe.as_str(), Mode::from_bits_truncate(0o666)).unwrap();
        // For both: so nobody's opening waits, and there is no end of file between two writers.
        let told = fs::File::options().read(true).write(true).open(&pipe).unwrap();
        for folder in ["work", "bin"] {
            fs::create_dir(dir.at(folder)).unwrap();
        }
        symlink(PM3, dir.at("bin/pm3")).unwrap();
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        let path = format!("{}:{path}", dir.at("bin"));
        let mut env = BTreeMap::from([("PATH", path), ("HOME", dir.path().to_owned()), ("TELL", pipe)]);
        if bare {
            env.insert("PM3_HOME", dir.at("home"));
        }
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        World {
            init,
            told: Lines::new("what the apps tell", told),
            kept: Vec::new(),
            env,
            bare,
            typed: RefCell::default(),
            dir,
        }
    }

    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// Later commands have this variable too.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Later commands do not have this variable.
    pub fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// The variables of its commands.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The path of a name in the folder where commands run.
    pub fn at(&self, name: &str) -> String {
        self.dir.at(&format!("work/{name}"))
    }

    /// Writes a file into that folder, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        self.dir.file(&format!("work/{name}"), text)
    }

    /// Copies an app of `tests/apps/` there, under this name.
    pub fn app(&self, app: &str, name: &str) {
        fs::copy(format!("tests/apps/{app}"), self.at(name)).unwrap();
    }

    /// A name in `$HOME`, which is not where commands run; `home/` in it is `$PM3_HOME` of a bare world.
    pub fn home(&self, name: &str) -> String {
        self.dir.at(name)
    }

    /// A program that is found in `PATH` under this name, before all others.
    pub fn program(&self, name: &str, path: &Path) {
        let _ = fs::remove_file(self.dir.at(&format!("bin/{name}")));
        symlink(path, self.dir.at(&format!("bin/{name}"))).unwrap();
    }

    /// A command of this world that has not been started; its stdin is empty.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = self.init.visitor(argv);
        command.env_clear().env(super::ROLE, "1").envs(&self.env).current_dir(self.at(".")).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which comes when nobody holds its output any more: a supervisor in the background
    /// that kept it would make every `$(pm3 …)` hang.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Said {
        let mut child = self.command(argv).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = Lines::new("stderr of a command", child.stderr.take().unwrap());
        let out = Lines::new("stdout of a command", child.stdout.take().unwrap()).text();
        let err = err.text();
        let code = child.wait().unwrap().code().unwrap();
        Said { line: argv.join(" "), code, out, err }
    }

    /// `pm3` with these words, split at blanks.
    #[track_caller]
    pub fn pm3(&self, words: &str) -> Said {
        self.run(&[&["pm3"], &*words.split_whitespace().collect::<Vec<_>>()].concat())
    }

    /// A line as it is typed to a shell.
    #[track_caller]
    pub fn types(&self, line: &str) -> Said {
        self.typed.borrow_mut().push(line.to_owned());
        self.run(&["/bin/sh", "-c", line])
    }

    /// The same, of a command that goes on until it is ended: it has not been started.
    pub fn typing(&self, line: &str) -> Command {
        self.typed.borrow_mut().push(line.to_owned());
        self.command(&["/bin/sh", "-c", &format!("exec {line}")])
    }

    /// Whether this line was typed.
    pub fn has_typed(&self, line: &str) -> bool {
        self.typed.borrow().iter().any(|typed| typed == line)
    }

    /// What `pm3 list` shows, row by row.
    #[track_caller]
    pub fn rows(&self) -> Vec<Row> {
        Row::all(&self.pm3("list").ok().out)
    }

    /// The one row of this name.
    #[track_caller]
    pub fn row(&self, name: &str) -> Row {
        let mut rows = self.rows().into_iter().filter(|row| row["name"] == *name);
        let (Some(row), None) = (rows.next(), rows.next()) else { panic!("none or several rows of {name}") };
        row
    }

    /// Waits until an app has told a line that begins with this, and takes it. What comes before it is kept.
    #[track_caller]
    pub fn told(&mut self, start: &str) -> String {
        if let Some(at) = self.kept.iter().position(|line| line.starts_with(start)) {
            return self.kept.remove(at);
        }
        loop {
            let line = self.told.next().unwrap();
            if line.starts_with(start) {
                return line;
            }
            self.kept.push(line);
        }
    }

    /// What has been told and not been taken, without waiting: only of use after something that comes last.
    pub fn untaken(&mut self) -> Vec<String> {
        let fresh = self.told.present();
        self.kept.extend(fresh);
        std::mem::take(&mut self.kept)
    }

    /// Signals a process of this world, by its pid there.
    #[track_caller]
    pub fn signal(&self, pid: i32, sig: Sig) {
        signal(self.outside(pid), sig);
    }

    /// The pid, as seen from the test, of the process with this pid in the world.
    #[track_caller]
    pub fn outside(&self, pid: i32) -> i32 {
        let found = self.processes().into_iter().find(|process| process.inside == pid);
        found.unwrap_or_else(|| panic!("no process {pid} is there")).outside
    }

    /// All processes of this world but its PID 1; dead ones that nobody has reaped count.
    pub fn processes(&self) -> Vec<Process> {
        Process::all_beside(self.init.pid).into_iter().filter(|process| process.inside != 1).collect()
    }

    /// Waits until all but PID 1 have ended: who has just said its last word may still be about to.
    #[track_caller]
    pub fn until_empty(&self) {
        let begun = Instant::now();
        while let Some(left) = self.processes().into_iter().find(|process| !process.is_gone()) {
            assert!(begun.elapsed() < PATIENCE, "left behind: {left:?}");
            std::thread::yield_now();
        }
    }

    /// The next line that PID 1 says on stdout: of a container, what apps write.
    pub fn output(&mut self) -> String {
        self.init.line()
    }

    /// The lines that PID 1 says on stderr: of a container, pm3's own.
    pub fn log(&mut self) -> &mut Lines {
        self.init.err()
    }

    /// Ends the supervisor as a person would, and checks that it took everything along.
    #[track_caller]
    pub fn end(mut self) {
        if self.bare {
            self.pm3("kill").ok();
            // The kernel reaps for this PID 1, after the pm3 that was asked has said its last word.
            let left = || self.processes().into_iter().filter(|process| !process.is_gone()).collect::<Vec<_>>();
            assert!(left().is_empty(), "left behind: {:#?}", left());
        } else {
            self.init.signal(Sig::TERM);
            assert_eq!(self.init.end(), End::Code(0), "{:#?}", self.init.err_rest());
        }
    }
}

/// A row of `pm3 list`'s table: its cells, by the column's name.
#[derive(Debug)]
pub struct Row(BTreeMap<String, String>);

impl Row {
    /// The rows of a table that stands somewhere in this text.
    pub fn all(text: &str) -> Vec<Row> {
        let cells = |line: &str| {
            let inside = line.strip_prefix('│')?.strip_suffix('│')?;
            Some(inside.split('│').map(|cell| cell.trim().to_owned()).collect::<Vec<String>>())
        };
        let mut lines = text.lines().filter_map(cells);
        let Some(names) = lines.next() else { return Vec::new() };
        lines.map(|cells| Row(names.iter().cloned().zip(cells).collect())).collect()
    }
}

impl std::ops::Index<&str> for Row {
    type Output = String;

    #[track_caller]
    fn index(&self, column: &str) -> &String {
        self.0.get(column).unwrap_or_else(|| panic!("no column {column} in {self:?}"))
    }
}

/// A process of a world.
#[derive(Debug)]
pub struct Process {
    /// Its pid in the world.
    pub inside: i32,
    /// Its pid as the test sees it.
    pub outside: i32,
    /// The parent's pid as the test sees it.
    pub parent: i32,
    /// Its command line, words parted by blanks; empty for one that is dead.
    pub line: String,
}

impl Process {
    /// Those in the pid namespace of this process.
    pub fn all_beside(pid: i32) -> Vec<Process> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let wanted = namespace(pid).expect("the process is there");
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| namespace(*pid).is_ok_and(|found| found == wanted)).filter_map(Process::read).collect()
    }

    /// None if it has ended meanwhile.
    pub fn read(pid: i32) -> Option<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next_back();
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        let (inside, parent) = (field("NSpid:")?.parse().ok()?, field("PPid:")?.parse().ok()?);
        Some(Process { inside, outside: pid, parent, line })
    }

    /// It has ended, reaped or not.
    pub fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.outside)).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z") || rest.starts_with(" X"))
    }
}
