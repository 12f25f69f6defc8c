//! The watcher: a role that tells init when files of an app have changed. Init starts it when some app has `watch`, and
//! tells it which; it looks (`tree`), leaves out what does not count (`ignore`, `app`), waits until a burst of changes is
//! over (`burst`), and tells init the app and one of its paths. What follows is init's decision.
//!
//! It never touches a process or writes a file. It sleeps until the kernel or init has something to say or a burst is
//! over, so where nothing changes it never wakes. It may be killed at any time: the next one is told the same, and
//! what changed in between goes unseen.

mod app;
mod burst;
mod ignore;
mod tree;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use log::{error, info, warn};

use crate::control::Request;
use crate::control::role::{Heard, Tell, Watched};
use crate::roles::{Line, News};
use crate::supervisor::event::Mono;
use crate::sys;
use crate::sys::{clock, own_lines, ready};
use app::App;
use burst::Weight;
use tree::{Lacks, Tree};

/// The exit code of a role that was started by hand (sysexits.h: EX_USAGE).
const NOT_BY_HAND: u8 = 64;

/// What is shown where the kernel could not keep all that happened.
const COUNTLESS: &str = "more files than could be told";

/// Does the watcher's work until init ends it. Returns the exit code.
pub fn main() -> u8 {
    own_lines::start();
    let line = match Line::take(c"pm3-watcher") {
        Ok(line) => line,
        Err(why) => {
            error!("watcher: {why}");
            return NOT_BY_HAND;
        }
    };
    let tree = match Tree::new() {
        Ok(tree) => tree,
        Err(error) => {
            let why = sys::why(sys::errno::of(&error));
            let (name, value) = quota("fs.inotify.max_user_instances", "user.max_inotify_instances");
            error!("watcher: cannot watch anything: {why}; raise the {value} of {name} with `sysctl {name}=1024`");
            return 1;
        }
    };
    let watcher = Watcher { line, tree, told: Vec::new(), apps: Vec::new(), asking: false, lacks: Lacks::default() };
    match watcher.run() {
        Ok(()) => 0,
        Err(error) => {
            error!("watcher: {error}");
            1
        }
    }
}

struct Watcher {
    line: Line,
    tree: Tree,
    /// What init has told last, and what was made of it.
    told: Vec<Watched>,
    apps: Vec<App>,
    /// Init owes an answer; nothing may be asked until then.
    asking: bool,
    /// What was said last about directories that are not watched.
    lacks: Lacks,
}

impl Watcher {
    fn run(mut self) -> io::Result<()> {
        loop {
            let fds = [self.line.as_fd(), self.tree.as_fd()];
            let [from_init, from_kernel] = ready::readable(fds, self.patience())?;
            // First what has happened: by the rules that held when it did.
            if from_kernel {
                self.look()?;
            }
            if from_init && !self.hear()? {
                return Ok(());
            }
            self.tell()?;
        }
    }

    /// How long nothing will happen by itself.
    fn patience(&self) -> Option<Duration> {
        let due = self.apps.iter().filter(|_| !self.asking).filter_map(|app| app.burst.due()).min();
        due.map(|at| at.since(clock::now()))
    }

    /// Takes in what has changed.
    fn look(&mut self) -> io::Result<()> {
        let changes = self.tree.turn(&self.apps)?;
        // Not before: an event is no younger than this.
        let now = clock::now();
        for (weight, path) in &changes.files {
            self.apps.iter_mut().for_each(|app| app.heed(now, *weight, path));
        }
        if changes.countless {
            self.apps.iter_mut().for_each(|app| app.burst.add(now, Weight::Written, || COUNTLESS.to_owned()));
        }
        self.complain();
        Ok(())
    }

    /// Hears init out; false: the work is done.
    fn hear(&mut self) -> io::Result<bool> {
        loop {
            match self.line.hear()? {
                News::Heard(Heard::Told(Tell::Watch { apps })) => self.watch(apps),
                News::Heard(Heard::Told(Tell::Finish)) | News::End => return Ok(false),
                // For other roles.
                News::Heard(Heard::Told(
                    Tell::Journal
                    | Tell::Briefed
                    | Tell::Usual { .. }
                    | Tell::Know(_)
                    | Tell::Forget { .. }
                    | Tell::Open { .. }
                    | Tell::Enough { .. }
                    | Tell::Over { .. }
                    | Tell::Serve(_)
                    | Tell::Leave { .. },
                )) => {}
                News::Heard(Heard::Replied(_)) => self.asking = false,
                News::Pause => return Ok(true),
            }
        }
    }

    /// These are to be watched from now on.
    fn watch(&mut self, told: Vec<Watched>) {
        let mut known: Vec<App> = std::mem::take(&mut self.apps);
        for app in &told {
            let mut new = App::new(app);
            if let Some(old) = known.iter().position(|old| old.name == new.name) {
                new.burst.take_over(known.swap_remove(old).burst);
            }
            self.apps.push(new);
        }
        self.tree.fit(&self.apps);
        for (app, told) in self.apps.iter().zip(&told).filter(|(_, told)| !self.told.contains(told)) {
            let dirs = self.tree.count(app);
            info!("{}: watching {}, {dirs} director{}", told.name, app.place(), if dirs == 1 { "y" } else { "ies" });
            for root in app.roots().iter().filter(|root| !root.exists()) {
                warn!("{}: watch: {} is not there yet, and is watched once it is", told.name, root.display());
            }
        }
        self.told = told;
        self.complain();
    }

    /// Tells init of one app whose burst is over.
    fn tell(&mut self) -> io::Result<()> {
        let now = clock::now();
        if self.asking {
            return Ok(());
        }
        let mut over = self.apps.iter_mut().filter_map(|app| Some((app.name.clone(), app.burst.take(now)?)));
        if let Some((app, burst::Over { path, at })) = over.next() {
            self.asking = true;
            return self.line.ask(&Request::Changed { app, path: path.into(), at: later(at) });
        }
        Ok(())
    }

    /// Says what is not watched, and what to do about it.
    fn complain(&mut self) {
        let lacks = self.tree.take_lacks();
        if lacks == self.lacks || lacks == Lacks::default() {
            return;
        }
        if let Some(dir) = &lacks.quota {
            let (name, value) = quota("fs.inotify.max_user_watches", "user.max_inotify_watches");
            warn!(
                "watch: the {value} watches of {name} are used up, so {} and maybe others are not watched; ignore more \
                 with ignore_watch, or raise it with `sysctl {name}=524288`",
                dir.display()
            );
        }
        if let Some((dir, why)) = &lacks.refused {
            warn!("watch: cannot watch {}, and maybe others: {why}", dir.display());
        }
        self.lacks = lacks;
    }
}

/// A run that began in the same moment may have missed the change.
fn later(at: Mono) -> Mono {
    Mono(at.0.saturating_add(1))
}

/// The lower of a quota's two settings, of the user and of the user namespace: its name and its value.
fn quota(of_user: &'static str, of_namespace: &'static str) -> (&'static str, String) {
    let value = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/proc/sys").join(name.replace('.', "/"))).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let values = [of_user, of_namespace].into_iter().filter_map(|name| Some((value(name)?, name)));
    values.min().map_or((of_user, "few".to_owned()), |(value, name)| (name, value.to_string()))
}
