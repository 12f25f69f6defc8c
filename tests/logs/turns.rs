//! Files that make room for new ones: all that was written is in them, whole, once and in its order, whatever happens to
//! the logger, to the directory and to the disk.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pm3::supervisor::event::Sig;

use crate::common::deeds::poured;
use crate::common::ns::Ns;
use crate::roles::roles;
use crate::until;
use crate::world::{Init, World, app, entry, has, has_not};

/// The files that have come of `logs/NAME.log`, in the order of their names; the one that is written to is the last.
fn files(world: &World, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path("logs")).unwrap().map(|entry| entry.unwrap().path());
    let stem = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().split(['.', '_']).next() == Some(name);
    let mut files: Vec<PathBuf> = entries.filter(stem).collect();
    let current = world.dir.join(format!("logs/{name}.log"));
    files.sort_by_key(|path| (*path == current, path.clone()));
    files
}

fn contents(world: &World, name: &str) -> Vec<Vec<u8>> {
    files(world, name).iter().map(|path| text(path)).collect()
}

/// What is in a file; of one that is compressed what it was.
fn text(path: &Path) -> Vec<u8> {
    let (mut text, file) = (Vec::new(), fs::File::open(path).unwrap());
    match path.extension().is_some_and(|ending| ending == "gz") {
        true => flate2::read::GzDecoder::new(file).read_to_end(&mut text).unwrap(),
        false => (&file).read_to_end(&mut text).unwrap(),
    };
    text
}

/// Waits until all old files are compressed, and nothing is left of how that was done.
fn until_pressed(world: &World, name: &str) {
    until("all old files are compressed", || {
        let files = files(world, name);
        let (_, old) = files.split_last().unwrap();
        old.iter().all(|path| path.extension().is_some_and(|ending| ending == "gz"))
    });
}

/// Keys of an app whose output goes to `logs/NAME.log` and is rotated.
fn keys(world: &World, key: &str, name: &str, rotate: &str) -> String {
    let file = world.path(&format!("logs/{name}.log"));
    format!("log_mode = \"raw\"\n{key} = {file:?}\nlog_rotate = {{ {rotate} }}")
}

/// The logger's pid, inside: a child of init, as its own that compress are not.
fn logger(init: &Init) -> u32 {
    let script = "for one in /proc/[0-9]*; do \
         read -r pid name _ parent _ < $one/stat && case $name$parent in '(pm3-logger)1') echo $pid;; esac; done";
    let (_, lines, err) = init.proc.inside(&["/bin/sh", "-c", script], &[]);
    let [pid] = &lines[..] else { panic!("one logger: {lines:?} {err:?}") };
    pid.parse().unwrap()
}

fn whole(text: &[u8]) -> bool {
    text.is_empty() || text.ends_with(b"\n")
}

#[test]
fn what_is_written_fast_is_in_files_of_the_size_to_the_byte() {
    let world = World::new();
    let sizes = [("less", (64 << 10) - 1), ("just", 64 << 10), ("more", (64 << 10) + 1)];
    let apps = sizes.map(|(name, size)| {
        let keys = keys(&world, "out_file", name, &format!("size = {size}, keep = 1000"));
        app(name, &["pour:8"], &format!("kind = \"oneshot\"\n{keys}"))
    });
    world.plan(&apps.concat());
    let log = world.boot(Ns::pid1()).ends(0);
    has_not(&log, "cannot");
    for (name, size) in sizes {
        let files = contents(&world, name);
        let (_, full) = files.split_last().unwrap();
        // As many whole lines as there is room for, and no more.
        assert!(full.iter().all(|file| file.len() == size / 128 * 128), "{name}");
        let text = files.concat();
        assert_eq!(text.len(), 8 << 20, "{name}");
        assert!(text.chunks(128).enumerate().all(|(at, line)| line == poured(at).as_slice()), "{name}");
    }
}

#[test]
fn whoever_shares_a_file_it_is_rotated_once_and_lines_stay_whole() {
    const LINES: usize = 3_000;
    let world = World::new();
    // Two streams, and several instances; lines of all lengths, up to one that is longer than a file.
    let script = format!(
        "long=x; for i in 1 2 3 4 5 6 7 8 9 10 11; do long=$$long$$long; done; i=0; \
         while [ $$i -lt {LINES} ]; do echo o$$NODE_APP_INSTANCE $$i .; echo e$$NODE_APP_INSTANCE $$i . >&2; \
         case $$i in *77) echo l$$NODE_APP_INSTANCE $$i $$long .;; esac; i=$$((i+1)); done"
    );
    let keys = keys(&world, "log_file", "one", "size = 1500, keep = 1000");
    world.plan(&entry(
        "a",
        "/bin/sh",
        &["-c", &script],
        &format!("kind = \"oneshot\"\ninstances = 3\nmerge_logs = true\n{keys}"),
    ));
    let log = world.boot(Ns::pid1()).ends(0);
    has_not(&log, "cannot");
    let files = contents(&world, "one");
    assert!(files.iter().all(|file| whole(file)));
    // Only what is too long for any is in a file that is too long, and alone there.
    assert!(files.iter().all(|file| file.len() <= 1_500 || file.iter().filter(|byte| **byte == b'\n').count() == 1));
    let text = String::from_utf8(files.concat()).unwrap();
    let mut next = std::collections::BTreeMap::new();
    for line in text.lines() {
        let [who, number, .., "."] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("torn: {line:?}") };
        let next: &mut usize = next.entry(who.to_owned()).or_default();
        let number: usize = number.parse().unwrap();
        let is_due = if who.starts_with('l') { number >= *next } else { number == *next };
        assert!(is_due, "{line}: {next} is due");
        *next = number + 1;
    }
    assert_eq!(next.len(), 9);
    assert!(next.iter().all(|(who, next)| *next == if who.starts_with('l') { LINES - 22 } else { LINES }), "{next:?}");
}

#[test]
fn only_the_newest_are_kept() {
    let world = World::new();
    let keys = keys(&world, "out_file", "a", "size = \"64K\", keep = 3");
    world.plan(&app("a", &["pour:4", "say:over", "pause"], &keys));
    let init = world.boot(Ns::pid1());
    until("it is over", || fs::read(world.path("logs/a.log")).is_ok_and(|text| text.ends_with(b"over\n")));
    // The last of the old ones goes after the last line has come.
    until("the newest alone are left", || files(&world, "a").len() == 4);
    let text = contents(&world, "a").concat();
    let text = text.strip_suffix(b"over\n").unwrap();
    let first = ((4 << 20) - text.len()) / 128;
    assert!(text.chunks(128).enumerate().all(|(at, line)| line == poured(first + at).as_slice()));
    init.does(&["delete", "a"]);
    has_not(&init.stop(0), "cannot");
}

#[test]
fn old_files_are_compressed_and_what_was_in_them_stays_as_it_was() {
    let world = World::new();
    let keys = keys(&world, "out_file", "a", "size = \"256K\", keep = 20, gzip = true");
    world.plan(&app("a", &["pour:8", "say:over", "pause"], &keys));
    let init = world.boot(Ns::pid1());
    until("it is over", || fs::read(world.path("logs/a.log")).is_ok_and(|text| text.ends_with(b"over\n")));
    until_pressed(&world, "a");
    let files = files(&world, "a");
    assert_eq!(files.len(), 21);
    let sizes: u64 = files.iter().take(20).map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(sizes < 1 << 20, "{sizes}");
    assert!(files.iter().all(|path| fs::metadata(path).unwrap().mode() & 0o777 == 0o640));
    let text = contents(&world, "a").concat();
    let text = text.strip_suffix(b"over\n").unwrap();
    let first = ((8 << 20) - text.len()) / 128;
    assert!(text.chunks(128).enumerate().all(|(at, line)| line == poured(first + at).as_slice()));
    // Nobody is left who did it.
    assert_eq!(roles(&init.proc).len(), 1);
    has_not(&init.stop(0), "cannot");
}

#[test]
fn a_logger_that_is_killed_while_it_rotates_loses_no_more_than_it_has_read() {
    const KILLS: usize = 7;
    // Several at once, as pm3 waits longer from one death of a logger to the next.
    let worlds: Vec<World> = (0..3).map(|_| World::new()).collect();
    let begin = |world: &World| {
        // With so small files it does little else than to rotate and to compress.
        let keys = keys(world, "out_file", "a", "size = \"16K\", keep = 1000, gzip = true");
        world.plan(&app("a", &["pour:12", "say:over", "pause"], &keys));
        world.boot(Ns::pid1())
    };
    let mut inits: Vec<_> = worlds.iter().map(begin).collect();
    for _ in 0..KILLS {
        for (world, init) in worlds.iter().zip(&mut inits) {
            let count = || fs::read_dir(world.path("logs")).map_or(0, Iterator::count);
            let before = count();
            until("some have been rotated", || count() > before + 3);
            init.signal_inside(logger(init), Sig::KILL);
            init.told("the logger ended (SIGKILL), replacing it");
        }
    }
    for (world, init) in worlds.iter().zip(inits) {
        let last = world.dir.join("logs/a.log");
        until("the last line is there", || fs::read(&last).is_ok_and(|text| text.ends_with(b"over\n")));
        until_pressed(world, "a");
        let files = contents(world, "a");
        assert!(files.iter().all(|file| whole(file)));
        let text = files.concat();
        let text = text.strip_suffix(b"over\n").unwrap();
        let number = |line: &[u8]| std::str::from_utf8(line.get(..12)?).ok()?.trim().parse().ok();
        let numbers: Vec<usize> = text.split_inclusive(|byte| *byte == b'\n').filter_map(number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "nothing comes twice, and all is in its order");
        let all = (12usize << 20) / 128;
        assert!(all - numbers.len() <= KILLS * ((64 << 10) / 128 + 2), "{} of {all}", numbers.len());
        init.stop(0);
    }
}

#[test]
fn a_file_of_yesterday_makes_room() {
    let world = World::new();
    fs::create_dir(world.path("logs")).unwrap();
    for (name, age) in [("old", 86_400), ("new", 0)] {
        let path = world.write(&format!("logs/{name}.log"), "before\n");
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    let every = |name: &str, every: &str| {
        app(name, &["say:now"], &format!("kind = \"oneshot\"\n{}", keys(&world, "out_file", name, every)))
    };
    // The second one is of this week, unless the week has just begun.
    world.plan(&(every("old", "size = 0, every = \"1d\"") + &every("new", "size = 0, every = \"40d\"")));
    world.boot(Ns::pid1()).ends(0);
    let texts = |name: &str| {
        contents(&world, name).into_iter().map(|text| String::from_utf8(text).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(texts("old"), ["before\n", "now\n"]);
    assert_eq!(texts("new").concat(), "before\nnow\n");
    // Its name says when its last line came.
    let name = files(&world, "old")[0].file_name().unwrap().to_str().unwrap().to_owned();
    let written = fs::metadata(world.path(&format!("logs/{name}"))).unwrap();
    let millis = written.mtime() as u64 * 1_000 + written.mtime_nsec() as u64 / 1_000_000;
    assert_eq!(name, pm3::config::date::format("[old__]YYYY-MM-DD_HH-mm-ss-SSS[.log]", millis));
}

#[test]
fn a_flush_empties_the_file_and_what_others_move_away_is_opened_anew() {
    let world = World::new();
    let mut gate = world.gate("gate");
    let wait = format!("gate:{}", gate.path);
    let line = |number: u32| format!("{number} {}", "x".repeat(500));
    let mut words = Vec::new();
    for number in 0..8 {
        words.extend([format!("say:{}", line(number)), wait.clone()]);
    }
    words.push("pause".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.plan(&app("a", &words, &keys(&world, "out_file", "a", "size = \"1K\", keep = 100")));
    let init = world.boot(Ns::pid1());
    let path = world.path("logs/a.log");
    let ends = |number: u32| {
        until("the line is there", || {
            fs::read_to_string(&path).is_ok_and(|text| text.ends_with(&(line(number) + "\n")))
        })
    };
    let mut next = |number: u32| {
        gate.open();
        ends(number);
    };
    ends(0);
    next(1);
    // Two lines are as much as it takes; the third goes into the next.
    next(2);
    next(3);
    init.does(&["flush"]);
    assert_eq!(world.read("logs/a.log"), "");
    next(4);
    next(5);
    // It would be full, but is not there any more.
    fs::rename(&path, world.path("logs/moved")).unwrap();
    next(6);
    fs::rename(&path, world.path("logs/moved-too")).unwrap();
    init.does(&["reload-logs"]);
    next(7);
    let text = |numbers: &[u32]| numbers.iter().map(|number| line(*number) + "\n").collect::<String>();
    let texts: Vec<String> = contents(&world, "a").into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
    assert_eq!(texts, [text(&[0, 1]), text(&[7])]);
    assert_eq!((world.read("logs/moved"), world.read("logs/moved-too")), (text(&[4, 5]), text(&[6])));
    has_not(&init.stop(0), "cannot");
}

#[test]
fn files_are_rotated_as_their_user_and_no_link_is_followed() {
    if !nix::unistd::geteuid().is_root() {
        return crate::common::lacking("root", 1);
    }
    let world = World::new();
    let secret = world.write("secret", "mine\n");
    for (name, owner) in [("logs", Some(65_534)), ("roots", None)] {
        fs::create_dir(world.path(name)).unwrap();
        chown(world.path(name), owner, owner).unwrap();
    }
    // Of names that an old one could have, and of those of what is being made of one.
    let planted = [
        "a__2020-01-01_00-00-00-000.log",
        "a__2020-01-01_00-00-00-000.log.gz",
        "a__2020-01-01_00-00-00-001.log.gz.tmp",
        "a__2020-01-01_00-00-00-002.log",
    ];
    for name in planted {
        symlink(&secret, world.path(&format!("logs/{name}"))).unwrap();
    }
    // A directory where others may write into a file that is there, and may not make one.
    let stays = world.write("roots/b.log", "");
    chown(&stays, Some(65_534), Some(65_534)).unwrap();
    let user = "user = \"65534\"\ngroup = \"65534\"\nkind = \"oneshot\"";
    let rotate = "size = \"64K\", keep = 30, gzip = true";
    let b = format!("log_mode = \"raw\"\nout_file = {stays:?}\nlog_rotate = {{ {rotate} }}");
    let script = "i=0; while [ $$i -lt 8192 ]; do printf '%0127d\\n' $$i; i=$$((i+1)); done";
    let stays_up = format!("{script}; exec sleep 1000");
    world.plan(
        &(entry("a", "/bin/sh", &["-c", &stays_up], &format!("{user}\n{}", keys(&world, "out_file", "a", rotate)))
            + &entry("b", "/bin/sh", &["-c", script], &format!("{user}\n{b}"))),
    );
    let init = world.boot(Ns::pid1().with("rooted"));
    // The link comes first, cannot be compressed, and holds up nobody.
    until("all that can be compressed is", || {
        let mut own: Vec<PathBuf> = files(&world, "a").into_iter().filter(|path| !path.is_symlink()).collect();
        let is_gz = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "gz");
        own.pop().is_some() && own.len() == 15 && own.iter().all(is_gz)
    });
    let log = init.stop(0);
    assert_eq!(world.read("secret"), "mine\n");
    let made: Vec<PathBuf> = files(&world, "a").into_iter().filter(|path| !path.is_symlink()).collect();
    let text: Vec<u8> = made.iter().flat_map(|path| text(path)).collect();
    assert_eq!((made.len(), text.len()), (16, 1 << 20));
    for path in &made {
        let file = fs::metadata(path).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (65_534, 65_534, 0o640), "{path:?}");
    }
    // It grows on, and that is told once.
    assert_eq!((fs::metadata(&stays).unwrap().len(), fs::read_dir(world.path("roots")).unwrap().count()), (1 << 20, 1));
    let told: Vec<&String> = log.iter().filter(|line| line.contains("cannot")).collect();
    let tells = |part: &str, end: &str| told.iter().filter(|line| line.contains(part) && line.ends_with(end)).count();
    assert_eq!(tells("cannot rotate ", "b.log: permission denied; it grows on"), 1, "{told:?}");
    assert_eq!(
        (tells("cannot compress ", "-002.log: too many symbolic links encountered"), told.len()),
        (1, 2),
        "{told:?}"
    );
}

#[test]
fn a_full_disk_costs_the_lines_that_do_not_fit_and_no_half_of_one() {
    const LINES: usize = 3_000;
    let world = World::new();
    let mut gate = world.gate("gate");
    for name in ["disk", "logs"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    let line = |number: usize| format!("{number:04} {}", "x".repeat(number % 100));
    let script = format!(
        "printf '%032768d' 0 > {}; x=; for i in 1 2 3 4 5 6 7 8 9 10; do x=xxxxxxxxxx$$x; done; i=0; while [ $$i -lt {LINES} ]; do \
         printf '%04d %.*s\\n' $$i $$((i%100)) $$x; i=$$((i+1)); done; exec {}",
        world.path("disk/ballast"),
        crate::common::app(&[&format!("gate:{}", gate.path), "say:after", "pause"]).join(" ")
    );
    let file = world.path("disk/a.log");
    world.plan(
        &(entry(
            "a",
            "/bin/sh",
            &["-c", &script],
            &format!("log_mode = \"raw\"\nout_file = {file:?}\nlog_rotate = true"),
        ) + &app(
            "other",
            &["say:here", "pause"],
            &format!("log_mode = \"raw\"\nout_file = {:?}", world.path("logs/other.log")),
        )),
    );
    // Room for less than a half of it, which nothing but this file takes.
    let mut init = world.boot(Ns::pid1().with(&format!("small:64:{}", world.path("disk"))));
    let told = init.told("no space left on device");
    assert!(
        told.contains(&format!("cannot write to {file}: no space left on device; output for it is dropped")),
        "{told}"
    );
    until("it has said all", || init.pm3(&["logs", "a", "--nostream", "--raw", "--lines", "1"]).1 == [line(LINES - 1)]);
    // It is told where one looks, and others go on.
    let lost = format!("[PM3][WARN] [a](0) output is lost: cannot write to {file}: no space left on device");
    assert_eq!(init.pm3(&["logs", "a", "--nostream", "--raw", "--lines", "0"]).2, [lost]);
    assert_eq!(world.read("logs/other.log"), "here\n");
    // Room again, and nothing of the file is taken away: the line that had begun ends as it should, and what comes next too.
    let emptied = format!(": > {}", world.path("disk/ballast"));
    let (code, _, err) = init.proc.inside(&["/bin/sh", "-c", &emptied], &[]);
    assert_eq!(code, 0, "{err:?}");
    gate.open();
    let told = init.told("were dropped");
    let show = format!("while IFS= read -r line; do echo \"$line\"; done < {file}");
    let text = || init.proc.inside(&["/bin/sh", "-c", &show], &[]).1;
    until("what comes next is there", || text().last().is_some_and(|line| line == "after"));
    let text = text();
    let kept = text.len() - 1;
    assert!(kept > 500 && text[kept] == "after", "{kept} {:?}", text[kept]);
    assert!(text[..kept].iter().enumerate().all(|(number, one)| *one == line(number)));
    let bytes: usize = (kept..LINES).map(|number| line(number).len() + 1).sum();
    assert!(
        told.ends_with(&format!("{}: {} lines of output ({bytes} bytes) were dropped", file, LINES - kept)),
        "{told}"
    );
    assert_eq!(init.pm3(&["logs", "a", "--nostream", "--raw", "--lines", "1"]).1, ["after"]);
    let log = init.stop(0);
    has_not(&log, "no space left");
    has(&log, "exit 0");
}
