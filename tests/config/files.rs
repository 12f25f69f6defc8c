//! Files: which one is read, why one cannot be, and that the shipped ones are good.

use std::fs;
use std::path::Path;

use expect_test::expect;
use pm3::config::{self, Facts, Wanted};

use super::{Scratch, facts, no_node, show, toml_files};

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = Scratch::new();
    dir.write("latin.toml", b"# \xc3\xa4\n[[apps]]\nname = '\xc3\xa4\xe4'\n");
    dir.write("huge.toml", vec![b'#'; (1 << 20) + 1]);
    let mut all = String::new();
    for file in ["none.toml", ".", "latin.toml", "huge.toml"] {
        all.push_str(&show(&config::load(Path::new(file), &Wanted::default(), &dir.facts(), &no_node).unwrap_err()));
    }
    expect![[r#"
        none.toml: cannot be read: no such file or directory
        .: cannot be read: is a directory
        latin.toml:3:10: not UTF-8 from here on
        huge.toml: larger than 1M: not a configuration
    "#]]
    .assert_eq(&all);
}

#[test]
fn a_file_is_found_by_argument_then_variable_then_place() {
    let dir = Scratch::new();
    let find = |explicit: Option<&str>, facts: &Facts| config::find(explicit.map(Path::new), facts);
    let mut facts = dir.facts();
    dir.write("pm3.toml", "[[apps]]\nscript = 'x'\n");
    assert_eq!(find(None, &facts), Ok("pm3.toml".into()));
    assert!(
        config::load(&find(None, &facts).unwrap(), &Wanted::default(), &facts, &no_node).unwrap().spec.apps.len() == 1
    );
    // PM2's names come after pm3's own, in the order in which they are listed.
    for name in ["ecosystem.yml", "ecosystem.config.json", "ecosystem.config.js"] {
        dir.write(name, "");
        assert_eq!(find(None, &facts), Ok("pm3.toml".into()));
        fs::rename(dir.0.join("pm3.toml"), dir.0.join("other.toml")).unwrap();
        assert_eq!((find(None, &facts), config::find_here(&facts)), (Ok(name.into()), Some(name.into())));
        fs::rename(dir.0.join("other.toml"), dir.0.join("pm3.toml")).unwrap();
    }
    for name in ["ecosystem.yml", "ecosystem.config.json", "ecosystem.config.js"] {
        fs::remove_file(dir.0.join(name)).unwrap();
    }
    facts.env.push(("PM3_CONFIG".into(), "b.toml".into()));
    assert_eq!(find(None, &facts), Ok("b.toml".into()));
    assert_eq!(find(Some("c.toml"), &facts), Ok("c.toml".into()));
    facts.env.clear();
    fs::remove_file(dir.0.join("pm3.toml")).unwrap();
    if !Path::new("/etc/pm3.toml").exists() && !Path::new("/etc/pm3/pm3.toml").exists() {
        let why = dir.neutral(&find(None, &facts).unwrap_err());
        expect!["no configuration file: looked for pm3.toml and ecosystem.config.js (.json, .yml, …) in DIR, for /etc/pm3/pm3.toml and for /etc/pm3.toml; `pm3 ecosystem` writes one, `pm3 init FILE`, --config FILE or $PM3_CONFIG name one"].assert_eq(&why);
    }
}

#[test]
fn the_shipped_files_are_good() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = toml_files(&conf);
    assert!(files.contains(&conf.join("pm3.toml")) && files.len() >= 5, "{files:?}");
    // As on a bare machine: no variables, and no memory limit unless a share of one is asked for.
    let facts = Facts { env: Vec::new(), memory_limit: None, start_dir: conf.clone(), ..facts() };
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let profile = text.contains("\n[apps.env_prod]").then_some("prod");
        let limit = text.contains("%\"\n").then_some(512 << 20);
        let facts = Facts { memory_limit: limit, ..facts.clone() };
        config::load(&file, &Wanted { profile, ..Wanted::default() }, &facts, &no_node)
            .map_err(|mistakes| show(&mistakes))
            .unwrap();
    }
    let default = config::load(&conf.join("pm3.toml"), &Wanted::default(), &facts, &no_node).unwrap().spec;
    expect![[r#"
        4 apps, 5 instances

        setup, oneshot
          run      /bin/sh -c 'echo '\''setting up'\''; sleep 1; echo '\''set up'\'''
          restart  never

        web × 2
          run      /bin/sh -c '    echo "instance $NODE_APP_INSTANCE is up, $GREETING"
            exec sleep 1000000
        '
          with     GREETING
          after    setup (required)
          restart  always; errored after 16 runs in a row under 1s
          output   pm3's own, each line with its app's name

        crash
          run      /bin/sh -c 'echo '\''failing'\''; exit 1'
          restart  always, waiting 200ms and ever longer, up to 15s; errored after 8 runs in a row under 1s

        leak
          run      /bin/sh -c '    half=x
            while [ ${#half} -lt 500000 ]; do half=$half$half; done
            while :; do heap=$heap$half; sleep 1; done
        '
          after    web
          restart  always; errored after 16 runs in a row under 1s
          memory   restarted above 8M

        order: setup, crash; then web; then leak
        pm3 ends when nothing runs that will run again; stopping takes 9s at most
    "#]]
    .assert_eq(&config::plan_text(&default));
}

/// What the tour only mentions is as good as what it sets.
#[test]
fn what_the_tour_comments_out_is_good_too() {
    let text = include_str!("../../conf/pm3.toml");
    let setting = |line: &str| {
        let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
        key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_').then(|| key.to_owned())
    };
    let facts = facts();
    let mut keys: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(key) = setting(line) else {
            keys.extend(line.split_once(" = ").map(|(key, _)| key.to_owned()));
            continue;
        };
        // In place of what the tour sets there: one of several ways.
        let others = if key == "port" { vec![("exec = \"true\"", "tcp = true")] } else { vec![] };
        let with = |(n, other): (usize, &str)| if n == at { other[2..].to_owned() } else { other.to_owned() };
        let mut file = text.lines().enumerate().map(with).collect::<Vec<_>>().join("\n");
        others.iter().for_each(|(one, other)| file = file.replace(one, other));
        let read = config::parse("pm3.toml", &file, None, &facts);
        read.unwrap_or_else(|mistakes| panic!("{line}\n{}", show(&mistakes)));
        keys.push(key);
    }
    for key in [
        "exec_mode",
        "listen",
        "listen_backlog",
        "socket_mode",
        "standby",
        "standby_max_age",
        "ready",
        "wait_ready",
        "listen_timeout",
        "watchdog",
        "overlap",
        "drain",
        "exec",
        "port",
        "interval",
        "timeout",
        "retries",
        "start_period",
        "start_interval",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key} is not in the tour");
    }
}
