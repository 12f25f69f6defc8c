//! The directories that are watched, all apps' together: one inotify, a watch on every directory that some app cares
//! for, and on the way to each root. It tells which files have changed and decides nothing about it.
//!
//! - A directory is watched before it is read, so what is made in a new one meanwhile is either seen or found.
//! - The way to a root (its ancestors) is watched too, but only for being moved or deleted; the directory that a root is
//!   in also for its names. So a root that is replaced, or deleted and made again, is noticed, and idle neighbours cost
//!   nothing. While a root is away, all of its way is watched for names.
//! - Symbolic links are followed on the way to a root, never below it.
//! - When the queue of events overflows everything is looked at again, and counts as changed.
//! - Every watch costs the kernel memory of the user's quota. When that is used up this goes on with what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::app::App;
use super::burst::Weight;
use crate::sys;
use crate::sys::inotify::{Inotify, Notice, Refused, Seen, Watch, What};

/// Reads of the queue in one turn, each of some dozens of events: what the watcher is told by init must not wait for
/// the end of a flood.
const READS_MAX: usize = 256;

/// How often the way to a root is looked at anew when it changes under our eyes; after that the next event will do.
const LOOKS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Tree {
    inotify: Inotify,
    /// A directory may be known by several paths: bind mounts, and links on the way to a root.
    dirs: BTreeMap<Watch, Vec<PathBuf>>,
    paths: BTreeMap<PathBuf, Held>,
    /// The roots and all their ancestors.
    spine: BTreeSet<PathBuf>,
    /// Counts the looks at everything, to know what the last one did not come by.
    round: u64,
    /// Why some directories are not watched, to be told once.
    lacks: Lacks,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    watch: Watch,
    round: u64,
}

/// What kept directories from being watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks {
    /// The user's quota of watches is used up; the first directory that is not watched.
    pub(super) quota: Option<PathBuf>,
    /// The first that may not be read, and why.
    pub(super) refused: Option<(PathBuf, Box<str>)>,
}

/// What a turn has seen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) files: Vec<(Weight, PathBuf)>,
    /// More than could be told.
    pub(super) countless: bool,
}

impl Tree {
    /// # Errors
    /// EMFILE: this user has too many of them.
    pub(super) fn new() -> io::Result<Tree> {
        Ok(Tree {
            inotify: Inotify::new()?,
            dirs: BTreeMap::new(),
            paths: BTreeMap::new(),
            spine: BTreeSet::new(),
            round: 0,
            lacks: Lacks::default(),
        })
    }

    /// How many directories are watched for this app.
    pub(super) fn count(&self, app: &App) -> usize {
        self.paths.keys().filter(|path| app.cares_for(path)).count()
    }

    /// Watches what these apps care for, and nothing else. What was watched already is so all the time.
    pub(super) fn fit(&mut self, apps: &[App]) {
        self.round += 1;
        self.lacks = Lacks::default();
        let roots = || apps.iter().flat_map(App::roots);
        self.spine = roots().flat_map(|root| root.ancestors()).map(Path::to_path_buf).collect();
        for root in roots() {
            self.hold_way_to(root);
            self.walk(root, apps, None);
        }
        let old: Vec<PathBuf> =
            self.paths.iter().filter(|(_, held)| held.round != self.round).map(|(path, _)| path.clone()).collect();
        old.iter().for_each(|path| self.drop_one(path));
    }

    /// What could not be watched at the last `fit` and since, if that was not asked before.
    pub(super) fn take_lacks(&mut self) -> Lacks {
        std::mem::take(&mut self.lacks)
    }

    /// Takes in what has happened; if there is more, the next turn has it.
    ///
    /// # Errors
    /// From read(2).
    pub(super) fn turn(&mut self, apps: &[App]) -> io::Result<Changes> {
        let mut changes = Changes::default();
        let mut seen = Vec::new();
        for _ in 0..READS_MAX {
            if !self.inotify.read(&mut seen)? {
                break;
            }
        }
        // The way to some roots has changed, at these places.
        let mut torn = BTreeSet::new();
        for one in seen {
            changes.countless |= one.what == What::Overflow;
            for path in self.dirs.get(&one.watch).cloned().unwrap_or_default() {
                self.digest(&one, path, apps, &mut torn, &mut changes.files);
            }
            if one.what == What::Forgotten {
                self.dirs.remove(&one.watch);
            }
        }
        if changes.countless || !torn.is_empty() {
            self.fit(apps);
            let roots = apps.iter().flat_map(App::roots);
            let back = roots.filter(|root| torn.iter().any(|at| root.starts_with(at)) && root.exists());
            changes.files.extend(back.map(|root| (Weight::Written, root.clone())));
        }
        Ok(changes)
    }

    /// What one event means for the directory `dir`.
    fn digest(
        &mut self,
        seen: &Seen,
        dir: PathBuf,
        apps: &[App],
        torn: &mut BTreeSet<PathBuf>,
        files: &mut Vec<(Weight, PathBuf)>,
    ) {
        let path = if seen.name.is_empty() { dir } else { dir.join(&seen.name) };
        let on_spine = self.spine.contains(&path);
        match seen.what {
            What::Overflow => {}
            What::Forgotten | What::SelfGone if !on_spine => self.drop_one(&path),
            What::Forgotten | What::SelfGone => {
                self.drop_below(&path);
                torn.insert(path);
            }
            What::Created | What::MovedHere | What::Deleted | What::MovedAway if on_spine => {
                self.drop_below(&path);
                if matches!(seen.what, What::Deleted | What::MovedAway) {
                    let roots = apps.iter().flat_map(App::roots).filter(|root| root.starts_with(&path));
                    files.extend(roots.map(|root| (Weight::Removed, root.clone())));
                }
                torn.insert(path);
            }
            // What was in a deleted directory has been told one by one; a new one counts by what is in it.
            What::Deleted if seen.is_dir => self.drop_below(&path),
            What::MovedAway if seen.is_dir => {
                self.drop_below(&path);
                files.push((Weight::Removed, path));
            }
            What::Created | What::MovedHere if seen.is_dir => {
                self.drop_below(&path);
                if apps.iter().any(|app| app.cares_for(&path)) {
                    self.walk(&path, apps, Some(files));
                }
            }
            What::Deleted | What::MovedAway => files.push((Weight::Removed, path)),
            What::Created | What::MovedHere | What::Modified => files.push((Weight::Written, path)),
            What::Attributes if seen.is_dir || seen.name.is_empty() => {}
            What::Attributes => {
                if was_touched(&path) {
                    files.push((Weight::Written, path));
                }
            }
        }
    }

    /// Watches the directories on the way to a root.
    fn hold_way_to(&mut self, root: &Path) {
        for _ in 0..LOOKS_MAX {
            let is_dir = root.is_dir();
            if is_dir || root.exists() {
                // A link on the way may be pointed elsewhere, and then nothing is moved or deleted.
                let mut below = root;
                for at in root.ancestors().skip(1) {
                    let notice = match below == root {
                        true if is_dir => Notice::Names,
                        true => Notice::All,
                        false if below.is_symlink() => Notice::Names,
                        false => Notice::Itself,
                    };
                    self.hold(at, notice);
                    below = at;
                }
                if root.exists() {
                    return;
                }
            }
            // From the top, so that what comes below a directory after it was looked at is told.
            let way: Vec<&Path> = root.ancestors().skip(1).collect();
            for at in way.into_iter().rev() {
                if !self.hold(at, Notice::Names) {
                    break;
                }
            }
            if !root.exists() {
                return;
            }
        }
    }

    /// Watches a directory and those below it that some app cares for, and appends the files in them.
    fn walk(&mut self, top: &Path, apps: &[App], mut files: Option<&mut Vec<(Weight, PathBuf)>>) {
        let mut ahead = vec![top.to_path_buf()];
        while let Some(dir) = ahead.pop() {
            if !self.hold(&dir, Notice::All) {
                continue;
            }
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                // Not followed: a link is a file here.
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir && apps.iter().any(|app| app.cares_for(&path)) {
                    ahead.push(path);
                } else if let Some(files) = files.as_mut().filter(|_| !is_dir) {
                    files.push((Weight::Written, path));
                }
            }
        }
    }

    /// Watches one directory; false: it is none, or cannot be watched.
    fn hold(&mut self, path: &Path, notice: Notice) -> bool {
        let watch = match self.inotify.watch(path, notice) {
            Ok(watch) => watch,
            Err(refused) => {
                self.lack(path, refused, notice);
                return false;
            }
        };
        let names = self.dirs.entry(watch).or_default();
        if !names.iter().any(|name| name == path) {
            names.push(path.to_path_buf());
        }
        let held = Held { watch, round: self.round };
        let before = self.paths.insert(path.to_path_buf(), held);
        // Another directory had this path: it went away, and we have not been told yet.
        if let Some(before) = before.filter(|before| before.watch != watch) {
            self.lose_name(before.watch, path);
        }
        true
    }

    fn lack(&mut self, path: &Path, refused: Refused, notice: Notice) {
        match refused {
            Refused::Gone => {}
            Refused::Quota => {
                self.lacks.quota.get_or_insert_with(|| path.to_path_buf());
            }
            // On the way to a root it costs no more than not to see the root replaced.
            Refused::Other(errno) if notice == Notice::All => {
                self.lacks.refused.get_or_insert_with(|| (path.to_path_buf(), sys::why(errno)));
            }
            Refused::Other(_) => {}
        }
    }

    /// What is at this path and below is not there any more, or is something else by now.
    fn drop_below(&mut self, top: &Path) {
        let below = self.paths.range(top.to_path_buf()..).take_while(|(path, _)| path.starts_with(top));
        let below: Vec<PathBuf> = below.map(|(path, _)| path.clone()).collect();
        below.iter().for_each(|path| self.drop_one(path));
    }

    fn drop_one(&mut self, path: &Path) {
        if let Some(held) = self.paths.remove(path) {
            self.lose_name(held.watch, path);
        }
    }

    /// A directory is not known by this path any more; one that has no other is not watched any more.
    fn lose_name(&mut self, watch: Watch, path: &Path) {
        let Some(names) = self.dirs.get_mut(&watch) else { return };
        names.retain(|name| name != path);
        if names.is_empty() {
            self.dirs.remove(&watch);
            self.inotify.forget(watch);
        }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Whether the last thing that was done to a file set its time to that moment, as touch(1) does. A change of mode or
/// owner leaves the time of its content behind.
fn was_touched(path: &Path) -> bool {
    let same = |file: fs::Metadata| (file.mtime(), file.mtime_nsec()) == (file.ctime(), file.ctime_nsec());
    fs::symlink_metadata(path).is_ok_and(|file| !file.is_dir() && same(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::control::role::Watched;
    use crate::dir::Dir;

    fn app(cwd: &Path, paths: &[&str]) -> App {
        let paths = paths.iter().map(|path| (*path).into()).collect();
        let cwd = cwd.to_str().unwrap().into();
        App::new(&Watched { name: "web".into(), cwd, paths, ..Watched::default() })
    }

    /// What a turn sees until there is nothing more. What other tests make on the way to a root does not count.
    fn seen(tree: &mut Tree, apps: &[App]) -> Vec<PathBuf> {
        let homes: Vec<_> = apps.iter().flat_map(App::roots).filter_map(|root| root.parent()).collect();
        let mut all = Vec::new();
        loop {
            let changes = tree.turn(apps).unwrap();
            assert!(!changes.countless);
            if changes.files.is_empty() {
                all.retain(|path: &PathBuf| homes.iter().any(|home| path.starts_with(home)));
                return all;
            }
            all.extend(changes.files.into_iter().map(|(_, path)| path));
        }
    }

    /// Every directory below, links not followed.
    fn dirs_below(top: &Path) -> Vec<PathBuf> {
        let mut all = vec![top.to_path_buf()];
        let mut at = 0;
        while let Some(dir) = all.get(at).cloned() {
            let entries = fs::read_dir(dir).unwrap().flatten();
            all.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
            at += 1;
        }
        all
    }

    /// Marsaglia's xorshift64, the same on every run.
    fn random(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 33).unwrap() % below
    }

    /// Whatever people do to a tree, and however late it is looked at: in the end each directory that counts is watched,
    /// under the name that it has, and no other.
    #[test]
    fn nothing_escapes_it() {
        let dir = Dir::new();
        let home = Path::new(dir.path());
        let names = ["a", "b", "c", "node_modules"];
        for seed in 1..=20u64 {
            let root = home.join(format!("root{seed}"));
            let outside = home.join(format!("outside{seed}"));
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::create_dir_all(outside.join("c")).unwrap();
            let apps = [app(&root, &[])];
            let mut tree = Tree::new().unwrap();
            tree.fit(&apps);
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for _ in 0..60 {
                let all = [dirs_below(&home.join(format!("root{seed}"))), dirs_below(&outside)].concat();
                let from = all[random(&mut state, all.len())].clone();
                let into = all[random(&mut state, all.len())].join(names[random(&mut state, names.len())]);
                match random(&mut state, 8) {
                    0 | 1 => drop(fs::create_dir_all(into.join("a/b"))),
                    2 => drop(fs::write(into.with_extension("js"), "x")),
                    3 if from != root && from != outside => drop(fs::remove_dir_all(&from)),
                    4 | 5 if from != root && from != outside => drop(fs::rename(&from, &into)),
                    6 => drop(symlink(&outside, into.with_extension("link"))),
                    7 => drop(seen(&mut tree, &apps)),
                    _ => {
                        // The root itself is replaced.
                        let aside = home.join("aside");
                        fs::rename(&root, &aside).unwrap();
                        if random(&mut state, 2) == 0 {
                            seen(&mut tree, &apps);
                        }
                        match random(&mut state, 3) {
                            0 => fs::create_dir_all(root.join("b/c")).unwrap(),
                            1 => fs::rename(&outside, &root).unwrap(),
                            _ => fs::rename(&aside, &root).unwrap(),
                        }
                        let _ = fs::remove_dir_all(&aside);
                        let _ = fs::create_dir(&outside);
                    }
                }
            }
            seen(&mut tree, &apps);
            let all = dirs_below(&root);
            let (counting, ignored): (Vec<_>, Vec<_>) = all.into_iter().partition(|dir| apps[0].cares_for(dir));
            for dir in &counting {
                fs::write(dir.join("last.js"), "x").unwrap();
                let seen = seen(&mut tree, &apps);
                assert_eq!(seen.first(), Some(&dir.join("last.js")), "seed {seed}");
            }
            for dir in ignored.iter().chain(&dirs_below(&outside)) {
                fs::write(dir.join("last.js"), "x").unwrap();
                assert_eq!(seen(&mut tree, &apps), [] as [PathBuf; 0], "seed {seed}");
            }
            assert_eq!(tree.count(&apps[0]), counting.len(), "seed {seed}");
            // And the way to it.
            assert_eq!(tree.dirs.len(), counting.len() + root.ancestors().skip(1).count(), "seed {seed}");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_watched() {
        let dir = Dir::new();
        let home = Path::new(dir.path());
        for dir in ["one/a", "two/b"] {
            fs::create_dir_all(home.join(dir)).unwrap();
        }
        let (one, two) = (app(&home.join("one"), &[]), app(&home.join("two"), &[]));
        let mut tree = Tree::new().unwrap();
        let way = home.ancestors().count();
        tree.fit(&[one, two]);
        assert_eq!(tree.dirs.len(), way + 4);
        let two = [app(&home.join("two"), &[])];
        tree.fit(&two);
        assert_eq!(tree.dirs.len(), way + 2);
        fs::write(home.join("one/a/x.js"), "x").unwrap();
        assert_eq!(seen(&mut tree, &two), [] as [PathBuf; 0]);
        tree.fit(&[]);
        assert_eq!((tree.dirs.len(), tree.paths.len()), (0, 0));
    }

    #[test]
    fn a_directory_of_two_names_is_seen_by_both() {
        let dir = Dir::new();
        let home = Path::new(dir.path());
        fs::create_dir_all(home.join("real/src")).unwrap();
        symlink("real", home.join("link")).unwrap();
        let apps = [app(&home.join("real"), &[]), app(&home.join("link"), &[])];
        let mut tree = Tree::new().unwrap();
        tree.fit(&apps);
        fs::write(home.join("link/src/f.js"), "x").unwrap();
        let seen = seen(&mut tree, &apps);
        for name in ["real", "link"] {
            assert!(seen.contains(&home.join(name).join("src/f.js")), "{name}: {seen:?}");
        }
    }
}
