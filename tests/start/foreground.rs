//! `pm3 start --no-daemon`: the process that was started is the supervisor, with its pid and its signals.

use pm3::supervisor::event::{End, Sig};

use crate::common::dir::Dir;
use crate::common::ns::{Ns, Proc};
use crate::common::{PM3, app};

/// As PID 1, or as another with these words, in a directory.
fn start(ns: Ns, dir: &Dir, words: &[&str]) -> Proc {
    let script = format!("cd {} && exec \"$@\"", dir.path());
    let argv: Vec<&str> = ["/bin/sh", "-c", &script, "sh", PM3].into_iter().chain(words.iter().copied()).collect();
    ns.unless_given(&["DYNO", "PM3_CONFIG"]).env("PM3_HOME", dir.path()).start(&argv)
}

fn script(dir: &Dir) {
    dir.file("app.sh", "trap 'echo ended; exit 7' TERM\necho \"up $name $*\"\nwhile :; do sleep 1000 & wait; done\n");
}

#[test]
fn as_pid_1_it_is_the_supervisor() {
    let dir = Dir::new();
    script(&dir);
    let mut pm3 = start(Ns::pid1(), &dir, &["start", "app.sh", "--name", "web", "--", "one"]);
    pm3.expect("up web one");
    pm3.signal(Sig::TERM);
    pm3.expect("ended");
    // No app decides: pm3 was asked to stop.
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn elsewhere_it_is_asked_for_or_a_dynos_way() {
    let dir = Dir::new();
    script(&dir);
    for (ns, words) in [
        (Ns::second(), &["start", "app.sh", "--no-daemon"][..]),
        (Ns::second().env("DYNO", "web.1"), &["start", "app.sh"]),
    ] {
        let mut pm3 = start(ns, &dir, words);
        pm3.expect("up app ");
        pm3.signal(Sig::INT);
        pm3.expect("ended");
        assert_eq!(pm3.end(), End::Code(0));
    }
}

#[test]
fn it_ends_with_its_last_app() {
    let dir = Dir::new();
    dir.file("once.sh", "exit 3");
    let mut pm3 = start(Ns::pid1(), &dir, &["start", "once.sh", "--no-autorestart", "--no-daemon"]);
    assert_eq!(pm3.end(), End::Code(3));
}

#[test]
fn a_file_is_read_again_when_it_is_told_to() {
    let dir = Dir::new();
    script(&dir);
    let entry = |name: &str| format!("[[apps]]\nname = '{name}'\nscript = 'app.sh'\n");
    dir.file("shop.toml", &(entry("a") + &entry("b")));
    let mut pm3 = start(Ns::pid1(), &dir, &["start", "shop.toml", "--only", "a"]);
    pm3.expect("up a ");
    dir.file("shop.toml", &(entry("a") + &entry("b") + "args = ['new']\n"));
    pm3.signal(Sig::HUP);
    while !pm3.err_line().contains("read again") {}
    pm3.signal(Sig::TERM);
    pm3.expect("ended");
    assert_eq!(pm3.end(), End::Code(0));
}

#[test]
fn mistakes_end_it_before_anything_is_started() {
    let dir = Dir::new();
    for (words, code) in [
        (&["start", "none.sh"][..], 1),
        (&["start", "nobody"], 1),
        (&["start", "app.sh", "-i", "abc"], 64),
        (&["start"], 64),
        (&["start", "none.toml"], 78),
    ] {
        let mut pm3 = start(Ns::pid1(), &dir, words);
        assert_eq!(pm3.end(), End::Code(code), "{words:?}");
        assert!(!pm3.err_rest().is_empty());
    }
}

/// A signal that comes while the words are read is kept for the supervisor that this process becomes.
#[test]
fn a_signal_at_the_very_beginning_is_not_lost() {
    let dir = Dir::new();
    script(&dir);
    let words = app(&["listen:TERM", "send:1:TERM:1", "exec", "[", PM3, "start", "app.sh", "]"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let line = format!("cd {} && exec \"$@\"", dir.path());
    let argv: Vec<&str> = ["/bin/sh", "-c", &line, "sh"].into_iter().chain(words).collect();
    let mut pm3 = Ns::pid1().env("PM3_HOME", dir.path()).start(&argv);
    assert_eq!(pm3.end(), End::Code(0));
}
