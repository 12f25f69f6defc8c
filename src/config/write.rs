//! Specs back to the keys of a file, for `save` and for settings that are changed from a command line. What it writes
//! reads back as the same specs; a field that is forgotten here does not compile.

use std::fmt::Write;

use super::app;
use super::tree::{Entry, Node, Number, Tree};
use super::units::{show_bytes, show_millis};
use super::value::Word;
use crate::supervisor::event::Millis;
use crate::supervisor::spec::{
    Amount, AppSpec, Health, Input, Kind, Launch, Limit, LogMode, LogRotate, Output, Probe, Rare, Ready, Resource,
    Restart, RestartPolicy, RollPolicy, ShellVariable, Standby, StopPolicy, Watch,
};

/// A file with these apps, in TOML, as `pm3 init` takes it; it is read as the same specs. Where an app's directory is not absolute, the file means the
/// same only in the directory where the app was read.
pub fn write(apps: &[AppSpec]) -> String {
    let mut text = String::new();
    for app in apps {
        text.push_str(if text.is_empty() { "[[apps]]\n" } else { "\n[[apps]]\n" });
        let mut table = table(app);
        as_shell(&mut table);
        let mut below = String::new();
        for (name, tree) in table {
            // A line for the shell is read as it stands.
            let dollars = if name == "command" { "$" } else { "$$" };
            match tree {
                // A variable a line: a whole environment is unreadable in one, and differs as a whole.
                Tree::Table(table) => {
                    let _ = writeln!(below, "\n[apps.{name}]");
                    for Entry { name, node, .. } in &table {
                        let _ = writeln!(below, "{} = {}", bare(name), toml(&node.tree, dollars));
                    }
                }
                plain @ (Tree::Nothing
                | Tree::Flag(_)
                | Tree::Number(_)
                | Tree::Text(_)
                | Tree::List(_)
                | Tree::Odd) => {
                    let _ = writeln!(text, "{name} = {}", toml(&plain, dollars));
                }
            }
        }
        // What follows a table's header is the table's.
        text.push_str(&below);
    }
    text
}

/// Keys and values, without those that are as they would be anyway.
type Pairs = Vec<(&'static str, Tree)>;

/// The keys of an app. Values are plain: a dollar in them is a dollar.
pub(super) fn table(app: &AppSpec) -> Pairs {
    // Taken apart in full, so that a new field cannot be forgotten.
    let usual = AppSpec::default();
    let AppSpec {
        name,
        namespace,
        kind,
        instances,
        autostart,
        restart,
        stop,
        roll,
        after,
        requires,
        main,
        exit_on_error,
        memory_limit,
        cron,
        overlap,
        watch,
        health,
        standby,
        launch,
    } = app;
    let mut to = Writer(Vec::new());
    to.put("name", text(name));
    to.some("namespace", namespace.as_deref().map(text));
    program(launch, &mut to);
    to.unless("kind", *kind == usual.kind, || word(*kind));
    // A file has no word for none: the app comes back stopped. The app named web may have another number than one, from
    // the environment.
    to.unless("instances", *instances <= 1 && &**name != "web", || number((*instances).max(1)));
    if let Some(standby) = standby {
        let usual = Standby::default();
        let Standby { count, max_age } = &**standby;
        to.unless("standby", *count == usual.count, || number(*count));
        to.unless("standby_max_age", *max_age == usual.max_age, || millis(*max_age));
    }
    to.unless("autostart", *autostart && *instances > 0, || Tree::Flag(false));
    to.unless("after", after.is_empty(), || texts(after));
    to.unless("requires", requires.is_empty(), || texts(requires));
    restarts(restart, *kind, &mut to);
    to.some("max_memory_restart", memory_limit.map(|bytes| text(&show_bytes(bytes))));
    to.some("cron_restart", cron.as_deref().map(text));
    to.some("overlap", overlap.map(Tree::Flag));
    let RollPolicy { max_surge, max_unavailable } = &**roll;
    to.unless("max_surge", *max_surge == usual.roll.max_surge, || amount(*max_surge));
    to.unless("max_unavailable", *max_unavailable == usual.roll.max_unavailable, || amount(*max_unavailable));
    if let Some(watch) = watch {
        let Watch { paths, ignore, delay, off } = &**watch;
        // No path means all below the app's directory, and an empty list means nothing.
        let all = paths.is_empty();
        to.unless("watch", *off, || if all { Tree::Flag(true) } else { texts(paths) });
        to.unless("ignore_watch", ignore.is_empty(), || texts(ignore));
        to.unless("watch_delay", *delay == Millis::ZERO, || millis(*delay));
    }
    to.some("health", health.as_deref().map(checks));
    stops(stop, &mut to);
    to.unless("main", !main, || Tree::Flag(true));
    to.unless("exit_on_error", !exit_on_error, || Tree::Flag(true));
    output(&launch.output, &mut to);
    rarely(launch.rare.as_deref(), &mut to);
    to.0
}

struct Writer(Pairs);

impl Writer {
    fn put(&mut self, key: &'static str, value: Tree) {
        self.0.push((key, value));
    }

    fn some(&mut self, key: &'static str, value: Option<Tree>) {
        self.0.extend(value.map(|value| (key, value)));
    }

    fn unless(&mut self, key: &'static str, usual: bool, value: impl FnOnce() -> Tree) {
        self.some(key, (!usual).then(value));
    }

    fn table(self) -> Tree {
        Tree::Table(self.0.into_iter().map(|(key, tree)| entry(key, tree)).collect())
    }
}

fn program(launch: &Launch, to: &mut Writer) {
    let Launch { interpreter, script, args, cwd, shell, env, output: _, rare: _ } = launch;
    to.put("script", text(script));
    // Given, even if empty, it says that a script with blanks in its name is no command line.
    to.unless("args", args.is_empty() && !script.contains(char::is_whitespace), || texts(args));
    let mut arguments = interpreter.iter();
    match arguments.next() {
        Some(program) => {
            to.put("interpreter", text(program));
            to.unless("interpreter_args", arguments.clone().next().is_none(), || texts(arguments));
        }
        None => to.unless("interpreter", app::by_ending(script).is_none(), || text("none")),
    }
    to.some("cwd", cwd.as_deref().map(text));
    let inherited = |(name, value): &ShellVariable| entry(name, value.as_deref().map_or(Tree::Flag(false), text));
    let shell = shell.variables();
    to.unless("shell_env", shell.is_empty(), || Tree::Table(shell.iter().map(inherited).collect()));
    let variable = |(name, value): (&str, &str)| entry(name, text(value));
    to.unless("env", env.is_empty(), || Tree::Table(env.iter().map(variable).collect()));
}

fn restarts(policy: &RestartPolicy, kind: Kind, to: &mut Writer) {
    let usual = RestartPolicy::default();
    let RestartPolicy { when, delay, backoff, jitter_percent, max_restarts, min_uptime, stop_exit_codes } = policy;
    let usually = match kind {
        Kind::Service => Restart::Always,
        Kind::Oneshot => Restart::Never,
    };
    to.unless("autorestart", *when == usually, || word(*when));
    to.unless("restart_delay", *delay == usual.delay, || millis(*delay));
    to.unless("exp_backoff_restart_delay", *backoff == usual.backoff, || millis(*backoff));
    to.unless("restart_jitter", *jitter_percent == 0, || number(u32::from(*jitter_percent)));
    let most = || if *max_restarts == u32::MAX { text("unlimited") } else { number(*max_restarts) };
    to.unless("max_restarts", *max_restarts == usual.max_restarts, most);
    to.unless("min_uptime", *min_uptime == usual.min_uptime, || millis(*min_uptime));
    let codes = || Tree::List(stop_exit_codes.iter().map(|code| node(number(u32::from(*code)))).collect());
    to.unless("stop_exit_codes", stop_exit_codes.is_empty(), codes);
}

fn stops(policy: &StopPolicy, to: &mut Writer) {
    let usual = StopPolicy::default();
    let StopPolicy { signal, timeout, tree, drain } = policy;
    to.unless("kill_signal", *signal == usual.signal, || text(&signal.to_string()));
    to.unless("kill_timeout", *timeout == usual.timeout, || millis(*timeout));
    to.unless("drain", *drain == usual.drain, || millis(*drain));
    to.unless("treekill", *tree, || Tree::Flag(false));
}

fn output(output: &Output, to: &mut Writer) {
    let Output { mode, out, err, both, merge } = output;
    to.unless("log_mode", *mode == LogMode::default(), || word(*mode));
    to.some("out_file", out.as_deref().map(text));
    to.some("error_file", err.as_deref().map(text));
    to.some("log_file", both.as_deref().map(text));
    to.unless("merge_logs", !merge, || Tree::Flag(true));
}

fn rarely(rare: Option<&Rare>, to: &mut Writer) {
    let Some(rare) = rare else { return };
    let Rare {
        instance_var,
        increment_var,
        user,
        group,
        stdin,
        umask,
        nice,
        oom_score_adj,
        no_new_privs,
        fork,
        listen,
        listen_backlog,
        socket_mode,
        limits,
        filter_env,
        log_date,
        log_memory,
        log_rotate,
        log_rate,
        log_line_max,
        log_blocks,
        lossless,
        ready,
        watchdog,
        listen_timeout,
    } = rare;
    to.some("instance_var", instance_var.as_deref().map(text));
    to.some("increment_var", increment_var.as_deref().map(text));
    to.some("user", user.as_deref().map(text));
    to.some("group", group.as_deref().map(text));
    to.unless("stdin", *stdin == Input::default(), || word(*stdin));
    to.some("umask", umask.map(octal));
    to.some("nice", nice.map(number));
    to.some("oom_score_adj", oom_score_adj.map(number));
    to.some("no_new_privs", no_new_privs.map(Tree::Flag));
    to.unless("exec_mode", !fork, || text("fork"));
    to.unless("listen", listen.is_empty(), || texts(listen));
    to.some("listen_backlog", listen_backlog.map(number));
    to.some("socket_mode", socket_mode.map(octal));
    let all = filter_env.iter().any(|name| name.is_empty());
    to.unless("filter_env", filter_env.is_empty(), || if all { Tree::Flag(true) } else { texts(filter_env) });
    to.some("log_date_format", log_date.as_deref().map(text));
    to.some("log_memory", log_memory.map(number));
    to.some("log_rotate", log_rotate.as_deref().map(rotation));
    to.some("log_rate", log_rate.map(|rate| text(&rate.to_string())));
    to.some("log_line_max", log_line_max.map(number));
    to.unless("log_on_full", !log_blocks, || text("block"));
    to.unless("lossless", !*lossless, || Tree::Flag(true));
    let is_message = *ready == Ready::Message;
    to.unless("wait_ready", !is_message, || Tree::Flag(true));
    to.unless("ready", is_message || *ready == Ready::default(), || text(&ready.word()));
    to.some("watchdog", watchdog.map(millis));
    to.some("listen_timeout", listen_timeout.map(millis));
    to.unless("limits", limits.is_empty(), || Tree::Table(limits.iter().map(limit).collect()));
}

fn checks(health: &Health) -> Tree {
    let usual = Health::default();
    let Health { probe, interval, timeout, retries, start_period, start_interval } = health;
    let mut to = Writer(Vec::new());
    // A bare port is a key of its own.
    let at = match probe {
        Probe::Http { at, path } if at.is_empty() || at.starts_with(':') => {
            to.put("http", text(path));
            &**at
        }
        Probe::Http { at, path } => {
            to.put("http", text(&format!("http://{at}{path}")));
            ""
        }
        Probe::Tcp { at } if at.is_empty() || at.starts_with(':') => {
            to.put("tcp", Tree::Flag(true));
            &**at
        }
        Probe::Tcp { at } => {
            to.put("tcp", text(at));
            ""
        }
        Probe::Exec(words) => {
            to.put("exec", texts(words));
            ""
        }
    };
    to.some("port", at.strip_prefix(':').map(number));
    to.unless("interval", *interval == usual.interval, || millis(*interval));
    to.unless("timeout", *timeout == usual.timeout, || millis(*timeout));
    to.unless("retries", *retries == usual.retries, || number(*retries));
    to.unless("start_period", *start_period == usual.start_period, || millis(*start_period));
    to.unless("start_interval", *start_interval == usual.start_interval, || millis(*start_interval));
    to.table()
}

fn rotation(rotate: &LogRotate) -> Tree {
    let usual = LogRotate::default();
    if *rotate == usual {
        return Tree::Flag(true);
    }
    let LogRotate { size, every, keep, gzip } = rotate;
    let mut to = Writer(Vec::new());
    to.unless("size", *size == usual.size, || text(&show_bytes(*size)));
    to.some("every", every.map(millis));
    to.unless("keep", *keep == usual.keep, || number(*keep));
    to.unless("gzip", !gzip, || Tree::Flag(true));
    to.table()
}

fn limit(limit: &Limit) -> Entry {
    let Limit { resource, soft, hard } = limit;
    let bound = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    let both = if soft == hard { bound(*soft) } else { format!("{}:{}", bound(*soft), bound(*hard)) };
    entry(spelled::<Resource>(*resource), text(&both))
}

// ---- values

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn texts(list: impl IntoIterator<Item: AsRef<str>>) -> Tree {
    Tree::List(list.into_iter().map(|item| node(text(item.as_ref()))).collect())
}

fn number(number: impl ToString) -> Tree {
    Tree::Number(Number { text: number.to_string(), octal: false })
}

/// As many of an app's instances.
fn amount(amount: Amount) -> Tree {
    match amount {
        Amount::Count(count) => number(count),
        Amount::Percent(percent) => text(&format!("{percent}%")),
    }
}

/// Permission bits.
fn octal(bits: u16) -> Tree {
    text(&format!("{bits:03o}"))
}

fn millis(span: Millis) -> Tree {
    text(&show_millis(span))
}

fn word<T: Word + PartialEq>(value: T) -> Tree {
    text(spelled(value))
}

/// The word for a value of a closed set.
fn spelled<T: Word + PartialEq>(value: T) -> &'static str {
    T::WORDS.iter().find(|(_, known)| *known == value).map(|(word, _)| *word).unwrap_or_default()
}

/// These were never read from anywhere.
fn node(tree: Tree) -> Node {
    Node { tree, span: 0..0 }
}

fn entry(name: &str, tree: Tree) -> Entry {
    Entry { name: name.to_owned(), at: 0..0, node: node(tree) }
}

// ---- TOML

/// What a shell runs is nicer to read, and to change, as the line that it was.
fn as_shell(table: &mut Pairs) {
    let find = |key: &str| table.iter().position(|(name, _)| *name == key);
    let (Some(script), Some(args), None) = (find("script"), find("args"), find("interpreter")) else { return };
    let is_sh = matches!(table.get(script), Some((_, Tree::Text(program))) if program == "/bin/sh");
    let line = match table.get(args) {
        Some((_, Tree::List(words))) if is_sh => match words.as_slice() {
            [flag, line] if flag.text() == Some("-c") => line.text().map(str::to_owned),
            _ => None,
        },
        _ => None,
    };
    if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
        table.retain(|(name, _)| !["script", "args"].contains(name));
        table.splice(script..script, [("shell", Tree::Flag(true)), ("command", Tree::Text(line))]);
    }
}

/// A value in TOML, with this in place of each dollar of a text.
fn toml(tree: &Tree, dollars: &str) -> String {
    match tree {
        Tree::Nothing | Tree::Odd => "\"\"".to_owned(),
        Tree::Flag(flag) => flag.to_string(),
        Tree::Number(number) => number.text.clone(),
        Tree::Text(text) => quoted(&text.replace('$', dollars)),
        Tree::List(list) => {
            let items: Vec<String> = list.iter().map(|node| toml(&node.tree, dollars)).collect();
            format!("[{}]", items.join(", "))
        }
        Tree::Table(table) => {
            let pair = |entry: &Entry| format!("{} = {}", bare(&entry.name), toml(&entry.node.tree, dollars));
            let pairs: Vec<String> = table.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// A key, in quotes only where it needs them.
fn bare(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
