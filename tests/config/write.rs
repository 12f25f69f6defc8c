//! Specs that are written as a file: the same specs come back, whatever is in them.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use pm3::config;
use pm3::supervisor::event::{Millis, Sig};
use pm3::supervisor::spec::{
    Amount, AppSpec, Health, Input, Kind, Launch, Limit, LogMode, LogRate, LogRotate, Output, Probe, Rare, Ready,
    Resource, Restart, RestartPolicy, RollPolicy, ShellVariable, Standby, StopPolicy, Watch,
};
use pm3::supervisor::texts::Texts;

use super::{Rng, facts, show, spec};

/// Text that a writer can get wrong.
const TEXTS: &[&str] = &[
    "plain",
    "two words",
    "$HOME",
    "${HOME}",
    "$$",
    "${",
    "$",
    "a\"b'c",
    "\\",
    "\\n",
    "line\nline\r\n",
    "\ttab\u{7f}\u{1}",
    "'''",
    "\"\"\"",
    "# no comment",
    "= [x] {y}",
    "true",
    "12",
    "grüße 🦀",
    "~",
    "~/x",
    "-",
    "NULL",
    " ",
];

const GLOBS: &[&str] = &["*.log", "tmp", "**/{a,b c}/$$x", "[!a]"];

struct Maker {
    rng: Rng,
}

/// Every field is named here, so that a new one has to be thought of.
impl Maker {
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len())].clone()
    }

    fn chance(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance().then(|| value(self))
    }

    fn text(&mut self) -> Box<str> {
        self.one(TEXTS).into()
    }

    fn path(&mut self) -> Box<str> {
        format!("/{}", self.text()).into()
    }

    fn texts(&mut self, least: usize) -> Box<[Box<str>]> {
        (0..least + self.rng.below(3)).map(|_| self.text()).collect()
    }

    fn variables(&mut self) -> BTreeMap<Box<str>, Box<str>> {
        (0..self.rng.below(3)).map(|_| (self.text().replace('=', "-").into(), self.text())).collect()
    }

    fn millis(&mut self) -> Millis {
        self.one(&[0, 1, 999, 1_000, 1_500, 61_001, 90_000_000, u32::MAX].map(Millis))
    }

    fn amount(&mut self) -> Amount {
        self.one(&[Amount::Count(1), Amount::Count(1_024), Amount::Percent(1), Amount::Percent(100)])
    }

    fn app(&mut self, index: usize, before: &[AppSpec]) -> AppSpec {
        let name = if index == 0 { "web".into() } else { format!("app-{index}ä") };
        let others = before.iter().map(|app| app.name.clone()).collect::<Vec<_>>();
        let kind = self.one(&[Kind::Service, Kind::Oneshot]);
        let mut spec = AppSpec {
            name: name.into(),
            namespace: self.maybe(|maker| maker.one(&["shop", "ns.1"]).into()),
            kind,
            instances: 1 + self.rng.below(3) as u32,
            autostart: self.chance(),
            restart: self.restart(kind).into(),
            stop: StopPolicy {
                signal: Sig(1 + self.rng.below(31) as u8),
                timeout: self.millis(),
                tree: self.chance(),
                drain: self.millis(),
            },
            roll: RollPolicy { max_surge: self.amount(), max_unavailable: self.amount() }.into(),
            after: others.iter().filter(|_| self.chance()).cloned().collect(),
            requires: others.iter().filter(|_| self.chance()).cloned().collect(),
            main: index == 1,
            exit_on_error: self.chance(),
            memory_limit: self.maybe(|maker| maker.one(&[64 << 10, 65_537, 20 << 20, 3 << 30, 1 << 50, u64::MAX])),
            cron: self.maybe(|maker| maker.one(&["0 3 * * *", "*/5 * * * * *", "@daily"]).into()),
            overlap: self.maybe(|maker| maker.one(&[true, false])),
            watch: self.maybe(|maker| {
                // What is off keeps no paths, and is not kept itself if it says nothing.
                let off = maker.chance();
                let paths = if off { Box::default() } else { (0..=maker.rng.below(2)).map(|_| maker.path()).collect() };
                let ignore = (0..usize::from(off) + maker.rng.below(2)).map(|_| maker.one(GLOBS).into()).collect();
                Box::new(Watch { paths, ignore, delay: maker.millis(), off })
            }),
            health: self.maybe(Maker::health).filter(|_| kind == Kind::Service).map(Box::new),
            standby: None,
            launch: self.launch(kind, index),
        };
        let (owns, is_handed) = (spec.launch.rare.as_deref().is_some_and(|rare| rare.fork), !spec.listen().is_empty());
        if kind == Kind::Service && spec.restart.when != Restart::Never && !owns && !is_handed {
            let (count, max_age) = (self.one(&[1, 64]), Millis(self.one(&[0, 1_000, 3_600_000])));
            spec.standby = self.maybe(|_| Box::new(Standby { count, max_age }));
        }
        spec
    }

    fn rotation(&mut self) -> LogRotate {
        LogRotate {
            size: self.one(&[1 << 10, 1_025, 10 << 20]),
            every: self.maybe(|maker| maker.one(&[60_000, 86_400_000].map(Millis))),
            keep: self.one(&[0, 10, 1_000]),
            gzip: self.chance(),
        }
    }

    fn health(&mut self) -> Health {
        let at = self.one(&["", ":3000", "127.0.0.1:80", "[::1]:1"]).into();
        let probe = match self.rng.below(3) {
            0 => Probe::Http { at, path: self.one(&["/", "/healthz?a=$x&b={y}"]).into() },
            1 => Probe::Tcp { at },
            _ => Probe::Exec(self.texts(1).into_iter().collect()),
        };
        let mut period = || Millis(self.one(&[100, 5_000, 30_000]));
        let (interval, timeout, start_interval) = (period(), period(), period());
        let (retries, start_period) = (self.one(&[1, 3, 1_000]), self.millis());
        Health { probe, interval, timeout, retries, start_period, start_interval }
    }

    fn restart(&mut self, kind: Kind) -> RestartPolicy {
        let when = [Restart::Never, Restart::OnFailure, Restart::Always];
        RestartPolicy {
            when: self.one(if kind == Kind::Oneshot { &when[..2] } else { &when }),
            delay: self.millis(),
            backoff: self.millis(),
            jitter_percent: self.rng.below(101) as u8,
            max_restarts: self.one(&[1, 16, 77, u32::MAX]),
            min_uptime: self.millis(),
            stop_exit_codes: (0..self.rng.below(3)).map(|_| self.rng.below(256) as u8).collect(),
        }
    }

    fn launch(&mut self, kind: Kind, index: usize) -> Launch {
        let shell = self.variables().into_iter();
        let shell: Vec<ShellVariable> = shell.map(|(name, value)| (name, self.maybe(|_| value))).collect();
        let mut env = self.variables();
        let rare = self.maybe(|maker| maker.rare(kind, index)).filter(|rare| *rare != Rare::default());
        if let Some(counted) = rare.as_ref().and_then(|rare| rare.increment_var.clone()) {
            env.insert(counted, "3000".into());
        }
        let program = self.one(&["node", "/usr/bin/python3", "./x"]);
        let modes = [LogMode::Inherit, LogMode::None, LogMode::Raw, LogMode::Prefix, LogMode::Json];
        // Only what the logger reads can have a text in it, be rotated and be bounded.
        let is_collected = |rare: &Rare| {
            let bounded = rare.log_rate.is_some() || rare.log_line_max.is_some() || rare.log_blocks;
            matches!(rare.ready, Ready::Line(_)) || rare.log_rotate.is_some() || bounded || rare.lossless
        };
        let unread = usize::from(rare.as_ref().is_some_and(is_collected)) * 2;
        let line = ["-c".into(), self.text()].into();
        let is_line = self.chance();
        Launch {
            interpreter: match is_line {
                false if self.chance() => [program.into()].into_iter().chain(self.texts(0)).collect(),
                _ => Texts::default(),
            },
            script: if is_line { "/bin/sh".into() } else { self.one(&["a.js", "a", "my script.py", "$x y"]).into() },
            args: if is_line { line } else { self.texts(0).into_iter().collect() },
            cwd: self.maybe(Maker::path),
            shell: shell.into(),
            env: env.into_iter().collect(),
            output: self.output(&modes[unread..]).into(),
            rare: rare.map(Box::new),
        }
    }

    fn output(&mut self, modes: &[LogMode]) -> Output {
        let (mode, merge) = (self.one(modes), self.chance());
        let (mut out, err) = (self.maybe(Maker::path), self.maybe(Maker::path));
        // Without the logger each stream has one place.
        let both = self.maybe(Maker::path).filter(|_| mode.is_collected() || out.is_none() && err.is_none());
        if both.is_some() && mode.is_collected() && self.chance() {
            out = Some(Output::OWN[0].into());
        }
        Output { mode, out, err, both, merge }
    }

    fn rare(&mut self, kind: Kind, index: usize) -> Rare {
        let resources = [(Resource::Core, "core"), (Resource::Nofile, "nofile"), (Resource::Stack, "stack")];
        let limits = resources.iter().filter(|_| self.chance()).map(|(resource, _)| *resource).collect::<Vec<_>>();
        let limit = |resource| {
            let hard = self.maybe(|maker| 1_000 + maker.rng.below(1_000) as u64);
            Limit { resource, soft: hard.map(|_| 999), hard }
        };
        let limits = limits.into_iter().map(limit).collect();
        // Each app has its own.
        let port = 1 + 1_000 * index + self.rng.below(1_000);
        let listen: Box<[Box<str>]> = match (kind, self.rng.below(3)) {
            (Kind::Service, 0) => [format!("unix:/run/{port} $x").into(), format!("tcp://[::]:{port}").into()].into(),
            (Kind::Service, 1) => [format!("tcp://127.0.0.1:{port}").into()].into(),
            _ => Box::default(),
        };
        let places = listen.len() as u8;
        let socket_mode = self.maybe(|maker| maker.one(&[0, 0o600, 0o777]));
        Rare {
            instance_var: self.maybe(|_| "N".into()),
            increment_var: self.maybe(|_| "PORT".into()),
            user: self.maybe(|maker| maker.one(&["www-data", "1000"]).into()),
            group: self.maybe(|maker| maker.one(&["www-data", "0"]).into()),
            stdin: if self.chance() { Input::Pipe } else { Input::Null },
            umask: self.maybe(|maker| maker.one(&[0, 0o22, 0o777])),
            nice: self.maybe(|maker| maker.one(&[-20, 0, 19])),
            oom_score_adj: self.maybe(|maker| maker.one(&[-1000, 0, 1000])),
            no_new_privs: self.maybe(Maker::chance),
            fork: self.chance(),
            listen,
            listen_backlog: self.maybe(|maker| maker.one(&[1, 65_535])),
            socket_mode,
            limits,
            log_date: self.maybe(|_| "HH:mm [$x]".into()),
            ready: self.one(&[
                Ready::Executing,
                Ready::Message,
                Ready::Notify,
                Ready::Descriptor(3 + places),
                Ready::Descriptor(255),
                Ready::Line("\"up\" at $PORT: ä".into()),
            ]),
            watchdog: self.maybe(|maker| Millis(maker.one(&[100, 30_000]))).filter(|_| kind == Kind::Service),
            listen_timeout: self.maybe(|maker| Millis(maker.one(&[100, 3_000, 60_000]))),
            log_memory: self.maybe(|maker| maker.one(&[0, 1 << 20])),
            log_rotate: self.maybe(Maker::rotation).map(Box::new),
            log_rate: self.maybe(|maker| LogRate {
                lines: maker.one(&[1, 1_000]),
                span: Millis(maker.one(&[1_000, 1_500, 30_000, 60_000, 3_600_000])),
            }),
            log_line_max: self.maybe(|maker| maker.one(&[256, 16 << 10])),
            log_blocks: self.chance(),
            lossless: self.chance(),
            filter_env: if self.chance() { ["".into()].into() } else { self.texts(0) },
        }
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let mut seen = BTreeSet::new();
    for seed in 1..=1000 {
        let mut maker = Maker { rng: Rng::new(seed) };
        let mut apps = Vec::new();
        for index in 0..1 + maker.rng.below(4) {
            apps.push(maker.app(index, &apps));
        }
        let text = config::write(&apps);
        let read = config::parse("saved.toml", &text, None, &facts());
        let read = read.map_err(|mistakes| show(&mistakes)).unwrap_or_else(|why| panic!("seed {seed}: {why}{text}"));
        assert_eq!(read.apps, apps, "seed {seed}: {text}");
        let mut within = "";
        for line in text.lines() {
            if let Some(table) = line.strip_prefix("[apps.").and_then(|rest| rest.strip_suffix(']')) {
                within = match table {
                    "health" => "health.",
                    "log_rotate" => "log_rotate.",
                    _ => "",
                };
                seen.insert(table.to_owned());
            } else if let Some((key, _)) = line.split_once(" = ") {
                seen.insert(format!("{within}{key}"));
            } else if line == "[[apps]]" {
                within = "";
            }
        }

        // And one by one, as for a changed setting.
        for app in &apps {
            let same = config::overlay(app, &[], &facts());
            assert_eq!(same.as_ref().map_err(|mistakes| show(mistakes)), Ok(app), "seed {seed}");
        }
    }
    let reference = config::keys();
    let keys = reference.split("[pm3]").next().unwrap().lines();
    let keys =
        keys.filter_map(|line| Some(line.strip_prefix("  ")?.split_once(" = ")?.0)).filter(|key| !key.contains(' '));
    let never: Vec<&str> = keys.filter(|key| !seen.contains(*key)).collect();
    expect!["append_env_to_name env_<profile> env_file port disable_logs time"].assert_eq(&never.join(" "));
}

#[test]
fn what_is_written_is_for_people_too() {
    let before = spec(
        r#"
        [[apps]]
        name = "web"
        script = "server.js"
        instances = 2
        env = { PORT = 3000, "a b" = "$$5" }
        max_memory_restart = "1.5G"
        kill_timeout = "90s"
        limits = { nofile = 4096 }
        [[apps]]
        command = "echo $HOME; exec sleep 1"
        shell = true
        requires = "web"
        cron_restart = "0 3 * * *"
        [[apps]]
        name = "plain"
        command = "server --port 80"
        "#,
    );
    expect![[r#"
        [[apps]]
        name = "web"
        script = "server.js"
        interpreter = "node"
        instances = 2
        max_memory_restart = "1536M"
        kill_timeout = "1m30s"

        [apps.env]
        PORT = "3000"
        "a b" = "$$5"

        [apps.limits]
        nofile = "4096"

        [[apps]]
        name = "echo"
        shell = true
        command = "echo $HOME; exec sleep 1"
        requires = ["web"]
        cron_restart = "0 3 * * *"

        [[apps]]
        name = "plain"
        script = "server"
        args = ["--port", "80"]
    "#]]
    .assert_eq(&config::write(&before.apps));
}

/// A supervisor keeps the app, so the file does: as one that is started by hand.
#[test]
fn an_app_of_no_instances_comes_back_stopped() {
    let none = AppSpec { instances: 0, ..spec("[[apps]]\nscript = 'a.js'").apps.remove(0) };
    let read = spec(&config::write(std::slice::from_ref(&none))).apps.remove(0);
    assert_eq!(read, AppSpec { instances: 1, autostart: false, ..none });
}
