//! Apps that are restarted when their files change: real files, real apps, the real watcher. That a change does not count
//! is shown by the next one that does: a removal, which says less than anything that was written, is then the reason
//! that is told, and there is one restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "init/world.rs"]
#[allow(dead_code, reason = "the chapters of `init` use the rest")]
mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use common::ns::Ns;
use pm3::supervisor::event::Sig;
use world::{Init, World, app, both};

/// A world with an app in a directory of its own, that is watched.
struct Site {
    world: World,
    init: Init,
    restarts: u64,
}

impl Site {
    fn new(keys: &str) -> Site {
        Site::with(keys, |_| ())
    }

    /// `prepare` makes what is there from the beginning.
    fn with(keys: &str, prepare: impl FnOnce(&World)) -> Site {
        let world = World::new();
        for dir in ["web", "web/src"] {
            fs::create_dir(world.path(dir)).unwrap();
        }
        world.write("web/index.js", "1");
        world.write("web/marker", "1");
        prepare(&world);
        world.plan(&app("web", &["say:up", "pause"], &format!("cwd = {:?}\n{keys}", world.path("web"))));
        let mut init = world.boot(Ns::pid1());
        init.proc.expect("up");
        init.told("web: watching ");
        Site { world, init, restarts: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.dir.join("web").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The app is restarted now, for this path, and nothing came before that.
    #[track_caller]
    fn restarts_for(&mut self, path: &str) {
        let line = self.init.told("web: stopping");
        assert_eq!(line, format!("[pm3] web: stopping with SIGTERM: watch: {path}"));
        self.init.told("web: online");
        self.init.proc.expect("up");
        self.restarts += 1;
        assert_eq!(self.init.row(0)["restarts"].as_u64(), Some(self.restarts));
    }

    /// Nothing that has happened so far is a reason to restart.
    #[track_caller]
    fn is_left_alone(&mut self) {
        fs::remove_file(self.path("marker")).unwrap();
        self.restarts_for("marker");
        self.write("marker", "1");
        self.restarts_for("marker");
    }

    /// The pid of the watcher, inside.
    fn watcher(&self) -> u32 {
        let find = "for p in /proc/[0-9]*; do read c < $p/comm; [ $c = pm3-watcher ] && echo ${p#/proc/}; done; :";
        let (_, out, err) = self.init.proc.inside(&["/bin/sh", "-c", find], &[]);
        let [pid] = out.as_slice() else { panic!("not one watcher: {out:?} {err:?}") };
        pid.parse().unwrap()
    }

    fn end(self) {
        self.init.stop(0);
    }
}

#[test]
fn a_change_restarts_the_app_and_says_which() {
    for ns in both() {
        let world = World::new();
        fs::create_dir(world.path("src")).unwrap();
        world.write("src/index.js", "1");
        world.plan(&app("web", &["say:up", "pause"], &format!("cwd = {:?}\nwatch = true", world.path(""))));
        let mut init = world.boot(ns);
        init.proc.expect("up");
        let place = world.dir.display();
        init.told(&format!("web: watching {place}, 2 directories"));
        world.write("src/index.js", "2");
        init.told("web: stopping with SIGTERM: watch: src/index.js");
        init.proc.expect("up");
        let row = init.row(0);
        assert_eq!((&row["reason"], &row["watching"]), (&"watch: src/index.js".into(), &true.into()));
        init.stop(0);
    }
}

#[test]
fn many_changes_are_one_restart() {
    let mut site = Site::new("watch = true");
    for nth in 0..300 {
        site.write(&format!("src/{nth}.js"), "x");
    }
    site.restarts_for("src/299.js");
    site.is_left_alone();
    site.end();
}

#[test]
fn every_way_of_saving_is_one_restart() {
    let mut site = Site::new("watch = true");
    // In place.
    site.write("index.js", "2");
    site.restarts_for("index.js");
    // vim with `backup`: a probe, a swap file, the old one aside, a new one.
    site.write(".index.js.swp", "");
    site.write("4913", "");
    fs::remove_file(site.path("4913")).unwrap();
    fs::rename(site.path("index.js"), site.path("index.js~")).unwrap();
    site.write("index.js", "3");
    fs::remove_file(site.path("index.js~")).unwrap();
    fs::remove_file(site.path(".index.js.swp")).unwrap();
    site.restarts_for("index.js");
    // Emacs, VS Code and most others: a temporary file that takes the place of the old one.
    site.write(".#index.js.tmp", "4");
    fs::rename(site.path(".#index.js.tmp"), site.path("index.js")).unwrap();
    site.restarts_for("index.js");
    site.write("index.js.tmp.42", "5");
    fs::rename(site.path("index.js.tmp.42"), site.path("index.js")).unwrap();
    site.restarts_for("index.js");
    // Empty before it is full.
    fs::File::create(site.path("index.js")).unwrap();
    site.write("index.js", "6");
    site.restarts_for("index.js");
    site.is_left_alone();
    site.end();
}

#[test]
fn a_touch_counts_and_a_mode_does_not() {
    use std::os::unix::fs::PermissionsExt;
    let mut site = Site::new("watch = true");
    let before = fs::metadata(site.path("index.js")).unwrap().modified().unwrap();
    let old = before - std::time::Duration::from_secs(60);
    let old = fs::FileTimes::new().set_accessed(old).set_modified(old);
    fs::File::options().append(true).open(site.path("index.js")).unwrap().set_times(old).unwrap();
    fs::set_permissions(site.path("index.js"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::read(site.path("index.js")).unwrap();
    site.is_left_alone();
    nix::sys::stat::utimensat(
        nix::fcntl::AT_FDCWD,
        &site.path("index.js"),
        &nix::sys::time::TimeSpec::UTIME_NOW,
        &nix::sys::time::TimeSpec::UTIME_NOW,
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )
    .unwrap();
    site.restarts_for("index.js");
    site.end();
}

#[test]
fn new_folders_are_watched_from_their_first_file_on() {
    let mut site = Site::new("watch = true\nwatch_delay = 50");
    for nth in 0..20 {
        // The file may be there before anybody has seen its folder.
        fs::create_dir_all(site.path(&format!("lib/{nth}/a/b"))).unwrap();
        site.write(&format!("lib/{nth}/a/b/f.js"), "1");
        site.restarts_for(&format!("lib/{nth}/a/b/f.js"));
    }
    for nth in 0..20 {
        site.write(&format!("lib/{nth}/a/b/f.js"), "2");
        site.restarts_for(&format!("lib/{nth}/a/b/f.js"));
    }
    // One that nothing is in is no change.
    fs::create_dir_all(site.path("empty/deeply")).unwrap();
    site.is_left_alone();
    site.end();
}

#[test]
fn folders_that_move_are_watched_where_they_are() {
    let mut site = Site::with("watch = true", |world| {
        fs::create_dir_all(world.path("outside/deep")).unwrap();
        world.write("outside/deep/f.js", "1");
    });
    let outside = site.world.dir.join("outside");
    fs::rename(&outside, site.path("inside")).unwrap();
    site.restarts_for("inside/deep/f.js");
    site.write("inside/deep/f.js", "2");
    site.restarts_for("inside/deep/f.js");
    fs::rename(site.path("inside"), site.path("src/renamed")).unwrap();
    site.restarts_for("src/renamed/deep/f.js");
    site.write("src/renamed/deep/f.js", "3");
    site.restarts_for("src/renamed/deep/f.js");
    // Away with it.
    fs::rename(site.path("src/renamed"), &outside).unwrap();
    site.restarts_for("src/renamed");
    fs::write(outside.join("deep/f.js"), "4").unwrap();
    site.is_left_alone();
    fs::remove_dir_all(site.path("src")).unwrap();
    fs::create_dir(site.path("src")).unwrap();
    site.write("src/a.js", "1");
    site.restarts_for("src/a.js");
    site.end();
}

#[test]
fn what_is_ignored_is_left_alone() {
    let keys = "watch = true\nignore_watch = [\"logs\", \"*.tmp\", \"src/**/gen\", \"!.env\"]";
    let mut site = Site::with(keys, |world| {
        for dir in [".git", "node_modules/x", "logs", "src/a/gen", "pkg/node_modules/y"] {
            fs::create_dir_all(world.path(&format!("web/{dir}"))).unwrap();
        }
    });
    let names =
        [".git/index", "node_modules/x/i.js", "logs/a.log", "src/a/gen/x.js", "x.tmp", "pkg/node_modules/y/z.js"];
    for name in names.iter().chain(&["src/.hidden", "src/.cache", "a~"]) {
        site.write(name, "1");
        site.write(name, "2");
    }
    fs::create_dir_all(site.path("src/.new/deep")).unwrap();
    site.write("src/.new/deep/x.js", "1");
    fs::remove_dir_all(site.path("node_modules")).unwrap();
    site.is_left_alone();
    site.write(".env", "A=1");
    site.restarts_for(".env");
    site.end();
}

/// Its files are links into a directory of a hidden name, which is replaced.
#[test]
fn a_config_map_of_kubernetes_can_be_watched() {
    let mut site = Site::with("watch = [\"../config\"]\nignore_watch = [\"!..data\"]", |world| {
        for version in ["config/..1", "config/..2"] {
            fs::create_dir_all(world.path(version)).unwrap();
            world.write(&format!("{version}/a.json"), version);
        }
        symlink("..1", world.path("config/..data")).unwrap();
        symlink("..data/a.json", world.path("config/a.json")).unwrap();
    });
    let data = site.world.path("config/..data");
    symlink("..2", site.world.path("config/..data_tmp")).unwrap();
    fs::rename(site.world.path("config/..data_tmp"), &data).unwrap();
    fs::remove_dir_all(site.world.path("config/..1")).unwrap();
    site.restarts_for(&data);
    site.end();
}

#[test]
fn its_own_log_never_counts() {
    // It writes a line at each start: that would never end.
    let world = World::new();
    fs::create_dir(world.path("web")).unwrap();
    world.write("web/marker", "1");
    let keys = format!("cwd = {:?}\nwatch = true\nout_file = \"web.log\"\ninstances = 2", world.path("web"));
    world.plan(&app("web", &["say:up", "pause"], &keys));
    let mut init = world.boot(Ns::pid1());
    init.told("web: watching ");
    fs::remove_file(world.path("web/marker")).unwrap();
    for instance in ["web-0", "web-1"] {
        assert!(init.told(&format!("{instance}: stopping")).ends_with(": watch: marker"));
        init.online(instance);
    }
    world.write("web/marker", "1");
    for instance in ["web-0", "web-1"] {
        assert!(init.told(&format!("{instance}: stopping")).ends_with(": watch: marker"));
        init.online(instance);
    }
    assert_eq!((init.row(0)["restarts"].as_u64(), init.row(1)["restarts"].as_u64()), (Some(2), Some(2)));
    init.stop(0);
    assert!(world.read("web/web-0.log").starts_with("up\nup\n"));
}

#[test]
fn links_are_not_followed_below_a_root() {
    let mut site = Site::with("watch = true", |world| {
        fs::create_dir(world.path("outside")).unwrap();
        symlink(world.path("outside"), world.path("web/link")).unwrap();
        symlink(world.path("web"), world.path("web/src/loop")).unwrap();
    });
    fs::write(site.world.path("outside/f.js"), "1").unwrap();
    site.is_left_alone();
    // The link itself is a file.
    fs::remove_file(site.path("link")).unwrap();
    site.restarts_for("link");
    symlink("nowhere", site.path("link")).unwrap();
    site.restarts_for("link");
    site.end();
}

#[test]
fn roots_that_go_away_are_watched_when_they_are_back() {
    let mut site = Site::with("watch = [\"../lib/deep\", \"conf.json\", \"../later/on\"]", |world| {
        fs::create_dir_all(world.path("lib/deep/er")).unwrap();
        world.write("lib/deep/er/f.js", "1");
        world.write("web/conf.json", "{}");
    });
    let lib = site.world.dir.join("lib");
    let shown = |name: &str| lib.join(name).display().to_string();
    fs::write(lib.join("deep/er/f.js"), "2").unwrap();
    site.restarts_for(&shown("deep/er/f.js"));
    // A file is replaced, not written.
    site.write("conf.new", "{}");
    fs::rename(site.path("conf.new"), site.path("conf.json")).unwrap();
    site.restarts_for("conf.json");
    site.write("conf.json", "[]");
    site.restarts_for("conf.json");
    // All of the way goes, and comes back.
    for _ in 0..3 {
        fs::remove_dir_all(&lib).unwrap();
        site.restarts_for(&shown("deep"));
        fs::create_dir_all(lib.join("deep/er")).unwrap();
        site.restarts_for(&shown("deep"));
        fs::write(lib.join("deep/er/f.js"), "3").unwrap();
        site.restarts_for(&shown("deep/er/f.js"));
    }
    // Another one takes its place, as a release does.
    fs::rename(&lib, site.world.path("old")).unwrap();
    fs::create_dir_all(site.world.path("new/deep")).unwrap();
    fs::rename(site.world.path("new"), &lib).unwrap();
    site.restarts_for(&shown("deep"));
    fs::write(lib.join("deep/g.js"), "1").unwrap();
    site.restarts_for(&shown("deep/g.js"));
    // One that was never there.
    fs::create_dir_all(site.world.path("later/on")).unwrap();
    site.restarts_for(&site.world.path("later/on"));
    fs::write(site.world.path("later/on/f.js"), "1").unwrap();
    site.restarts_for(&site.world.path("later/on/f.js"));
    site.end();
}

#[test]
fn a_link_on_the_way_may_be_pointed_elsewhere() {
    let mut site = Site::with("watch = [\"../current/src\"]", |world| {
        for release in ["1", "2"] {
            fs::create_dir_all(world.path(&format!("releases/{release}/src"))).unwrap();
        }
        symlink("releases/1", world.path("current")).unwrap();
    });
    let shown = |site: &Site, name: &str| site.world.path(&format!("current/{name}"));
    fs::write(site.world.path("releases/1/src/f.js"), "1").unwrap();
    site.restarts_for(&shown(&site, "src/f.js"));
    symlink("releases/2", site.world.path("next")).unwrap();
    fs::rename(site.world.path("next"), site.world.path("current")).unwrap();
    site.restarts_for(&shown(&site, "src"));
    fs::write(site.world.path("releases/2/src/f.js"), "1").unwrap();
    site.restarts_for(&shown(&site, "src/f.js"));
    fs::remove_file(site.world.path("releases/2/src/f.js")).unwrap();
    fs::write(site.world.path("releases/1/src/f.js"), "2").unwrap();
    site.restarts_for(&shown(&site, "src/f.js"));
    site.end();
}

#[test]
fn what_overflows_counts_and_everything_is_looked_at_again() {
    let mut site = Site::new("watch = true");
    let watcher = site.watcher();
    site.init.signal_inside(watcher, Sig::STOP);
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // Two by turns, or the kernel would tell many times of one as once.
    for nth in 0..most.trim().parse::<u32>().unwrap() {
        site.write(if nth % 2 == 0 { "index.js" } else { "marker" }, "x");
    }
    fs::create_dir_all(site.path("new/deep")).unwrap();
    site.init.signal_inside(watcher, Sig::CONT);
    site.restarts_for("more files than could be told");
    site.write("new/deep/f.js", "1");
    site.restarts_for("new/deep/f.js");
    site.is_left_alone();
    site.end();
}

#[test]
fn without_more_watches_it_goes_on_with_what_it_has() {
    let world = World::new();
    fs::create_dir_all(world.path("web/src")).unwrap();
    for nth in 0..40 {
        fs::create_dir_all(world.path(&format!("web/pkg/{nth}"))).unwrap();
    }
    world.plan(&app("web", &["say:up", "pause"], &format!("cwd = {:?}\nwatch = true", world.path("web"))));
    // A quota of its own, which only a user namespace has.
    let script = "echo 20 > /proc/sys/user/max_inotify_watches; exec \"$0\" init \"$1\"";
    let file = world.path("pm3.toml");
    let ns = Ns::pid1().env("PM3_HOME", world.dir.to_str().unwrap());
    let mut pm3 = ns.start(&["/bin/sh", "-c", script, common::PM3, &file]);
    pm3.expect("up");
    let complaint = loop {
        let line = pm3.err_line();
        if line.contains("watch: the ") {
            break line;
        }
    };
    assert!(
        complaint.starts_with("[pm3] warn: watch: the 20 watches of user.max_inotify_watches are used up, so "),
        "{complaint}"
    );
    assert!(complaint.ends_with("or raise it with `sysctl user.max_inotify_watches=524288`"), "{complaint}");
    world.write("web/index.js", "1");
    loop {
        let line = pm3.err_line();
        assert!(!line.contains("used up"), "{line}");
        if line.contains("stopping with SIGTERM: watch: index.js") {
            return;
        }
    }
}

#[test]
fn a_watcher_that_dies_is_replaced() {
    let mut site = Site::new("watch = true");
    site.write("index.js", "2");
    site.restarts_for("index.js");
    site.init.signal_inside(site.watcher(), Sig::KILL);
    site.init.told("the watcher ended (SIGKILL), replacing it");
    site.init.told("web: watching ");
    site.write("index.js", "3");
    site.restarts_for("index.js");
    // What everybody gets does not end it.
    site.init.signal_inside(site.watcher(), Sig::TERM);
    site.write("index.js", "4");
    site.restarts_for("index.js");
    site.end();
}

#[test]
fn stop_ends_the_watching_and_start_begins_it() {
    let mut site = Site::new("watch = true");
    let watching = |site: &Site| site.init.row(0)["watching"].as_bool();
    assert_eq!(watching(&site), Some(true));
    site.init.does(&["stop", "web"]);
    assert_eq!(watching(&site), Some(false));
    site.write("index.js", "2");
    site.init.does(&["start", "web"]);
    site.init.told("web: watching ");
    site.init.proc.expect("up");
    assert_eq!(watching(&site), Some(true));
    site.is_left_alone();
    site.end();
}

#[test]
fn watching_is_switched_by_a_verb() {
    let mut site = Site::new("watch = true");
    world::has(&site.init.does(&["watch", "web"]), "[PM3] web: is not watched any more");
    site.write("index.js", "2");
    world::has(&site.init.does(&["watch", "web"]), "[PM3] web: is restarted when its files change");
    site.init.told("web: watching ");
    site.is_left_alone();
    let (code, _, err) = site.init.pm3(&["watch", "wbe"]);
    assert_eq!((code, err.concat().contains("did you mean web?")), (1, true), "{err:?}");
    site.end();
}

#[test]
fn an_app_that_has_given_up_is_tried_again_when_somebody_mends_it() {
    let world = World::new();
    fs::create_dir(world.path("web")).unwrap();
    world.write("web/run.sh", "exit 3");
    let keys = format!("name = \"web\"\ncwd = {:?}\nwatch = true\nmax_restarts = 2", world.path("web"));
    let other = app("other", &["pause"], "");
    world.plan(&format!("[[apps]]\n{keys}\ncommand = \"/bin/sh run.sh\"\n{other}"));
    let mut init = world.boot(Ns::pid1());
    let mut awaited = vec!["web: errored after 2 short runs", "web: watching "];
    while !awaited.is_empty() {
        let line = init.told("web: ");
        awaited.retain(|part| !line.contains(part));
    }
    world.write("web/run.sh", "echo mended; read _ < /dev/zero");
    init.told("web: restarting: watch: run.sh");
    init.proc.expect("mended");
    init.stop(0);
}

#[test]
fn where_nothing_changes_it_never_wakes() {
    let mut site = Site::with("watch = true", |world| {
        fs::create_dir_all(world.path("web/node_modules/x")).unwrap();
        fs::create_dir_all(world.path("web/.git")).unwrap();
    });
    site.is_left_alone();
    let watcher = site.watcher();
    let switches = |site: &Site| {
        let text = format!("grep ^voluntary /proc/{watcher}/status");
        site.init.proc.inside(&["/bin/sh", "-c", &text], &[]).1.concat()
    };
    let before = switches(&site);
    for nth in 0..100 {
        site.write("node_modules/x/i.js", "1");
        site.write(".git/index", "1");
        fs::write(site.world.path(&format!("beside/{nth}")), "1").unwrap_or_default();
        fs::read(site.path("index.js")).unwrap();
    }
    site.init.does(&["list"]);
    assert_eq!(switches(&site), before);
    site.end();
}
