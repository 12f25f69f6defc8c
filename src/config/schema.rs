//! The keys of the file: one table for `[[apps]]`, one for `[pm3]`. A row is all there is to know about a key, and
//! everything else is derived from it: reading, the message for a wrong value, suggestions, and the printed reference.
//! A new key is a new row. What several keys mean together is not here but in `app` and `file`.

use std::cell::RefCell;

use super::app::Draft;
use super::bounds::{LineMax, OnFull};
use super::health;
use super::kinds::{
    Account, Age, Crashes, Cron, DateFormat, ExecMode, FilePath, Instances, LogLevel, LogMemory, Memory, Name, Percent,
    Period, Program, Umask, Variable, Whole,
};
use super::rotation::{FileSize, Rotation, Turn};
use super::several::{Codes, Env, EnvFiles, Filter, Globs, Limits, Line, Listen, Names, ShellEnv, Watched, Words};
use super::value::{Refused, Val, Value, Wrongs};
use crate::supervisor::event::{Millis, Sig};
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{
    Amount, ExitPolicy, Health, Input, Kind, LogMode, LogRate, LogRotate, Rare, Ready, Restart, Right, Settings,
};

/// A key of a table that becomes a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    /// Other names for it: PM2's, where its word is another one.
    pub(super) also: &'static [&'static str],
    /// What it is when it is not given, as it would be written, or described.
    pub(super) default: Otherwise,
    /// One line.
    pub(super) doc: &'static str,
    /// Completes "expected …".
    pub(super) expects: fn() -> String,
    /// Reads the value into its place.
    pub(super) read: fn(&mut T, &Val<'_>) -> Result<(), Wrongs>,
}

#[derive(Clone, Copy)]
pub(super) enum Otherwise {
    /// As written in the file.
    Is(&'static str),
    /// Depends on something else.
    Rule(&'static str),
    /// Has no value then.
    Unset,
}

use Otherwise::{Is, Rule, Unset};

/// A row: its kind of value is named once, for what is expected and for what is read.
macro_rules! key {
    ($name:literal, $also:expr, $default:expr, $kind:ty, $set:expr, $doc:literal) => {
        Key {
            name: $name,
            also: &$also,
            default: $default,
            doc: $doc,
            expects: <$kind as Value>::expects,
            read: |target, val| {
                put(target, <$kind as Value>::read(val)?, $set);
                Ok(())
            },
        }
    };
}

fn put<T, V>(target: &mut T, value: V, set: fn(&mut T, V)) {
    set(target, value);
}

/// `[[apps]]`
#[rustfmt::skip]
pub(super) static APP: &[Key<Draft>] = &[
    // What is run.
    key!("name", [], Rule("the script's file name without its ending"), Name, |app, v| app.name = Some(v.0),
        "what the app is called; each has its own name"),
    key!("append_env_to_name", [], Is("false"), bool, |app, v| app.name_with_profile = v,
        "with a profile chosen, its name follows the app's: web-prod with --env prod"),
    key!("script", ["exec", "cmd"], Unset, FilePath, |app, v| app.script = Some(v.0),
        "the file to run, relative to cwd; without a slash and not in cwd: looked up in $PATH"),
    key!("args", [], Is("[]"), Words, |app, v| app.args = Some(v),
        "arguments; one text is split at blanks, with quotes; $VAR and ${VAR} are replaced, each within its word"),
    key!("command", [], Unset, Line, |app, v| app.command = Some(v.0),
        "in place of script and args: a command line, split at blanks, with quotes; no shell reads it"),
    key!("shell", [], Is("false"), bool, |app, v| app.shell = v,
        "give the command to /bin/sh -c as it stands: pipes, loops, and all variables are the shell's affair"),
    key!("interpreter", ["exec_interpreter"],
        Rule("by the script's ending: node, python, bash, ruby, php, perl or bun, as PM2; else none"),
        Program, |app, v| app.interpreter = Some(v.0),
        "the program that runs the script; \"none\" executes the script itself"),
    key!("interpreter_args", ["node_args", "interpreterArgs"], Is("[]"), Words, |app, v| app.interpreter_args = v,
        "arguments of the interpreter, before the script; as args"),
    key!("cwd", [], Rule("the directory that pm3 was started in"), FilePath, |app, v| app.spec.launch.cwd = Some(v.0),
        "the directory that the app runs in; a relative one starts where pm3 was started"),
    key!("namespace", [], Is("\"default\""), Name, |app, v| app.spec.namespace = Some(v.0),
        "a word for several apps, that verbs take in place of a name"),

    // Its environment.
    key!("env", [], Is("{}"), Env, |app, v| app.env.extend(v.0),
        "variables on top of pm3's own environment"),
    key!("env_<profile>", [], Is("{}"), Env, |app, v| app.env.extend(v.0),
        "variables on top of env, when the profile is chosen: env_prod with --env prod"),
    key!("env_file", [], Is("[]"), EnvFiles, |app, v| app.env_files = v,
        "files with lines of KEY=VALUE, relative to cwd, below env; a later one wins; -FILE may be missing"),

    key!("port", [], Unset, Whole<0, 65535>, |app, v| app.env.push(("PORT".into(), v.0.to_string())),
        "a short way to set PORT in env"),
    key!("filter_env", [], Is("false"), Filter, |app, v| app.rare.filter_env = v.0,
        "what of pm3's own environment the app does not get: names, or beginnings of names; true: all of it"),
    key!("shell_env", [], Is("{}"), ShellEnv, |app, v| app.shell_env = v.0,
        "as pm3 save writes it: how the environment of the shell that started the app differs from pm3's own; below env"),

    // How many.
    key!("instances", [], Rule("$WEB_CONCURRENCY for the app named web, else 1"), Instances,
        |app, v| app.instances = Some(v.0),
        "how many run side by side; processors are those that the container may use"),
    key!("exec_mode", [], Is("\"cluster\""), ExecMode, |app, v| app.rare.fork = matches!(v, ExecMode::Fork),
        "cluster: all instances share the ports that the program opens; fork: each process owns its port, as without pm3"),
    key!("listen", [], Is("[]"), Listen, |app, v| app.rare.listen = v.0,
        "sockets that pm3 opens and hands to each process as descriptors 3, 4, … ($LISTEN_FDS): \"0.0.0.0:3000\", \":3000\", \"unix:/run/web.sock\""),
    key!("listen_backlog", [], Rule("as many as the kernel allows"), Whole<1, 65535>,
        |app, v| app.rare.listen_backlog = Some(v.0 as u32),
        "how many connections may wait at each socket of pm3's for the app to take them"),
    key!("socket_mode", [], Is("\"666\""), Umask, |app, v| app.rare.socket_mode = Some(v.0).filter(|mode| *mode != Rare::SOCKET_MODE),
        "permission bits of the Unix sockets in listen, which belong to the app's user and group"),
    key!("standby", [], Is("0"), Whole<0, 64>, |app, v| app.spec.standby.get_or_insert_default().count = v.0 as u32,
        "spares besides instances: started, and held where they open their port, until they take the place of one that has died"),
    key!("standby_max_age", [], Is("\"1h\""), Age, |app, v| app.spec.standby.get_or_insert_default().max_age = v.0,
        "a spare that has stood by for so long is replaced by a fresh one; 0: never"),
    key!("instance_var", [], Is("\"NODE_APP_INSTANCE\""), Variable, |app, v| app.rare.instance_var = Some(v.0),
        "the variable that tells an instance its number, from 0; the lowest free one is taken"),
    key!("increment_var", [], Unset, Variable, |app, v| app.rare.increment_var = Some(v.0),
        "a variable with a number that grows by one with each instance: PORT gives 3000, 3001, …"),

    // When it starts, and starts again.
    key!("kind", [], Is("\"service\""), Kind, |app, v| app.spec.kind = v,
        "oneshot: runs to its end, and 0 means done; what waits for it starts then"),
    key!("autostart", [], Is("true"), bool, |app, v| app.spec.autostart = v,
        "false: started by a verb, by its schedule, or because a running app requires it"),
    key!("after", [], Is("[]"), Names, |app, v| app.after = v,
        "order alone: apps that come first, until they are online or have ended for good; stopping goes backwards"),
    key!("requires", [], Is("[]"), Names, |app, v| app.requires = v,
        "apps that start with it and must be online (a oneshot: done) first; while one of them is errored, so is this"),
    key!("autorestart", ["restart"], Rule("always; never for a oneshot"), Restart, |app, v| app.restart = Some(v),
        "which ends are followed by a new start; PM2's true and false are always and never"),
    key!("restart_delay", [], Is("0"), Millis, |app, v| app.spec.restart.delay = v,
        "wait before each restart, always the same; 0: none"),
    key!("exp_backoff_restart_delay", [], Is("0"), Millis, |app, v| app.spec.restart.backoff = v,
        "first wait of a growing one: times 1.5 each time, up to 15 s, and anew after 30 s online; 0: off"),
    key!("restart_jitter", [], Is("0"), Percent, |app, v| app.spec.restart.jitter_percent = v.0,
        "lengthen each wait by a random share of up to this, so that many apps do not restart at once"),
    key!("max_restarts", [], Is("16"), Crashes, |app, v| app.spec.restart.max_restarts = v.0,
        "that many short runs in a row, and the app is errored"),
    key!("min_uptime", [], Is("\"1s\""), Millis, |app, v| app.spec.restart.min_uptime = v,
        "a run shorter than this is a short one"),
    key!("stop_exit_codes", [], Is("[]"), Codes, |app, v| app.spec.restart.stop_exit_codes = v.0.into(),
        "exit codes that mean: do not start again"),
    key!("max_memory_restart", [], Is("0"), Memory, |app, v| app.spec.memory_limit = Some(v.0).filter(|limit| *limit > 0),
        "restart an instance whose processes use more private memory than this together; % of the container's limit; 0: no limit"),
    key!("cron_restart", ["cron"], Is("0"), Cron, |app, v| app.spec.cron = Some(v.0).filter(|cron| !cron.is_empty()),
        "restart on a schedule, in local time; an app that is not running is started then; 0: none"),
    key!("overlap", [], Rule("for `reload` and a changed entry, unless a port is owned"), bool,
        |app, v| app.spec.overlap = Some(v),
        "whether a new process may start before the old one ends: true is always, false is never"),
    key!("max_surge", [], Is("1"), Amount, |app, v| app.spec.roll.max_surge = v,
        "how many instances have a new process beside the old one at once, as in Kubernetes; a percentage is rounded up"),
    key!("max_unavailable", [], Is("1"), Amount, |app, v| app.spec.roll.max_unavailable = v,
        "how many instances are away at once where the old process ends first, as in a restart; a percentage is rounded down, to 1 at least"),
    key!("ready", [], Rule("exec; after a run that listened: listen"), Ready, |app, v| app.rare.ready = v,
        "what makes it online, and lets a new process take over: its program executes; it listens; sd_notify's READY=1; wait_ready's word; its first good probe; a newline on a descriptor, as s6 has it; or a line of its output with a text in it"),
    key!("wait_ready", [], Is("false"), bool, |app, v| app.wait_ready = v,
        "PM2's way to say ready = \"message\": online only when the app says so, by Node's process.send('ready') or a line \"ready\" to $NODE_CHANNEL_FD"),
    key!("listen_timeout", [], Rule("\"3s\" with wait_ready, else \"30s\""), Period,
        |app, v| app.rare.listen_timeout = Some(v.0),
        "how long a process may take until it is ready, or listens where the one before it did: then a start counts as online, and a reload has failed"),
    key!("watchdog", [], Unset, Period, |app, v| app.rare.watchdog = Some(v.0),
        "how often the app says that it is alive (WATCHDOG=1 to $NOTIFY_SOCKET, sd_notify(3)); when it has not for so long, it is replaced"),
    key!("health", [], Unset, Health, |app, v| app.spec.health = Some(Box::new(v)),
        "how to see whether it is well: when it is not, it is replaced; the keys are below, with Docker's words"),
    key!("watch", [], Is("false"), Watched, |app, v| app.watch = v,
        "restart when files change: true is all below cwd; or paths, relative to cwd"),
    key!("ignore_watch", [], Is("[]"), Globs, |app, v| app.watching.ignore = v.0,
        "what watch does not look at, on top of dotfiles, node_modules, __pycache__ and its logs: *.tmp, logs/**, !.env"),
    key!("watch_delay", [], Is("0"), Millis, |app, v| app.watching.delay = v,
        "restart once nothing has changed for this long; 0: 150 ms"),

    // How it ends.
    key!("kill_signal", [], Is("\"TERM\""), Sig, |app, v| app.spec.stop.signal = v,
        "the signal that asks the main process to stop; INT in PM2's files, unless they say otherwise"),
    key!("kill_timeout", [], Is("\"8s\""), Millis, |app, v| app.spec.stop.timeout = v,
        "how long it may take to stop; then SIGKILL"),
    key!("drain", [], Is("\"5s\""), Millis, |app, v| app.spec.stop.drain = v,
        "how long a process may take over what its clients have asked, while another one serves for it, before kill_signal"),
    key!("treekill", [], Is("true"), bool, |app, v| app.spec.stop.tree = v,
        "end what outlives the main process: kill_signal, then SIGKILL; false: leave it alone"),
    key!("main", [], Is("false"), bool, |app, v| app.spec.main = v,
        "pm3 ends when this app has ended and is not to be restarted, with its exit code; for one app at most"),
    key!("exit_on_error", [], Is("false"), bool, |app, v| app.spec.exit_on_error = v,
        "pm3 ends when this app is errored, with its exit code"),

    // Its output.
    key!("log_mode", ["log_type"], Rule("$PM3_LOG_MODE, else auto: raw into files and for a single app, prefix for several"),
        LogMode, |app, v| app.log_mode = Some(v),
        "how output is written: raw as it is; prefix with `id|name |` before each line; json as an object a line; inherit by the app itself, straight to pm3's own; none: not at all"),
    key!("disable_logs", [], Is("false"), bool, |app, v| app.log_mode = if v { Some(LogMode::None) } else { app.log_mode },
        "PM2's way to say log_mode = \"none\""),
    key!("log_date_format", [], Unset, DateFormat, |app, v| app.rare.log_date = Some(v.0),
        "a date before each line, as \"YYYY-MM-DD HH:mm:ss.SSS Z\": PM2's tokens, local time"),
    key!("time", [], Is("false"), bool, |app, v| app.time = v,
        "a short way to set log_date_format to \"YYYY-MM-DDTHH:mm:ss\""),
    key!("log_memory", [], Is("\"64K\""), LogMemory, |app, v| app.rare.log_memory = Some(v.0),
        "how much of its recent output pm3 keeps for `pm3 logs`, in bytes of memory; 0: nothing"),
    key!("log_rotate", [], Is("false"), Rotation, |app, v| app.rare.log_rotate = v.0.map(Box::new),
        "start a new file when one is full, or its time is over, and keep some of the old; true: as below; or set the keys below"),
    key!("log_rate", [], Unset, LogRate, |app, v| app.rare.log_rate = Some(v),
        "so many lines in a time, as \"1000/s\" or \"10000/30s\", of all instances together: more are dropped, counted and told; `pm3 logs` has them"),
    key!("log_line_max", [], Rule("32K of text; raw lines of any length"), LineMax, |app, v| app.rare.log_line_max = Some(v.0),
        "no line is written that is longer, with all that stands before it: a longer one is cut, with a mark, and goes on as another; 10000 for Heroku, \"16K\" for Docker and Kubernetes"),
    key!("log_on_full", [], Is("\"drop\""), OnFull, |app, v| app.rare.log_blocks = matches!(v, OnFull::Block),
        "when a place takes no output any more, as stdout of a container whose log driver is stuck: drop it after a second, count it and tell; or block, and the app waits"),
    key!("lossless", [], Is("false"), bool, |app, v| app.rare.lossless = v,
        "when pm3's logger is killed, nothing of the output is lost: it is taken out of the app's pipe only once it is written, which costs about a third of the speed"),
    key!("out_file", ["output", "out", "out_log"], Unset, FilePath, |app, v| app.out_file = Some(v.0),
        "a file for stdout, appended to, relative to cwd; with several instances -ID comes before its ending"),
    key!("error_file", ["error", "err", "err_file", "err_log"], Unset, FilePath, |app, v| app.error_file = Some(v.0),
        "the same for stderr"),
    key!("log_file", ["log"], Unset, FilePath, |app, v| app.log_file = Some(v.0),
        "one file for both, beside those two; where there is no other file, in place of pm3's own stdout and stderr"),
    key!("merge_logs", ["combine_logs"], Is("false"), bool, |app, v| app.spec.launch.output.merge = v,
        "all instances write to the same files, without -ID"),

    // What it is and may do, as a process.
    key!("stdin", [], Is("\"null\""), Input, |app, v| app.rare.stdin = v,
        "what it reads: null, which ends at once; or pipe, for the lines of `pm3 send` and `pm3 attach`"),
    key!("user", ["uid"], Rule("pm3's"), Account, |app, v| app.rare.user = Some(v.0),
        "the user to run as; needs pm3 to be root"),
    key!("group", ["gid"], Rule("the user's own"), Account, |app, v| app.rare.group = Some(v.0),
        "the group to run as"),
    key!("umask", [], Rule("pm3's"), Umask, |app, v| app.rare.umask = Some(v.0),
        "permission bits that new files do not get"),
    key!("nice", [], Rule("pm3's"), Whole<-20, 19>, |app, v| app.rare.nice = Some(v.0 as i8),
        "priority: the higher, the less processor time; below pm3's own needs CAP_SYS_NICE"),
    key!("oom_score_adj", [], Rule("pm3's"), Whole<-1000, 1000>, |app, v| app.rare.oom_score_adj = Some(v.0 as i16),
        "who dies first when memory is full: the higher, the sooner"),
    key!("limits", [], Is("{}"), Limits, |app, v| app.rare.limits = v.0.into(),
        "resource limits as in setrlimit(2): one number for both, or \"soft:hard\""),
    key!("no_new_privs", [], Rule("false"), bool, |app, v| app.rare.no_new_privs = Some(v),
        "setuid programs give the app no more rights"),
];

/// `[apps.health]`
#[rustfmt::skip]
pub(super) static HEALTH: &[Key<health::Draft>] = &[
    key!("http", [], Unset, health::Http, |draft, v| draft.http = Some(v),
        "ask for this path, where it listens or at port; an answer with a status from 200 to 399 is a good one"),
    key!("tcp", [], Unset, health::Tcp, |draft, v| draft.tcp = Some(v),
        "connect"),
    key!("exec", [], Unset, health::Command, |draft, v| draft.exec = Some(v),
        "run a command as the app's user, in its cwd, with its environment; exit 0 is good"),
    key!("port", [], Rule("the first that it opens, else $PORT"), Whole<1, 65535>, |draft, v| draft.port = Some(v.0 as u16),
        "the port of http and tcp"),
    key!("interval", [], Is("\"30s\""), Period, |draft, v| draft.health.interval = v.0,
        "from the start to the first probe, and from one to the next"),
    key!("timeout", [], Is("\"30s\""), Period, |draft, v| draft.health.timeout = v.0,
        "a probe that takes longer has failed"),
    key!("retries", [], Is("3"), Whole<1, 1000>, |draft, v| draft.health.retries = v.0 as u32,
        "that many failures in a row, and the process is unhealthy and is replaced"),
    key!("start_period", [], Is("0"), Millis, |draft, v| draft.health.start_period = v,
        "failures this soon after the start do not count, unless a probe has succeeded"),
    key!("start_interval", [], Is("\"5s\""), Period, |draft, v| draft.health.start_interval = v.0,
        "from one probe to the next within start_period"),
];

/// `[apps.log_rotate]`, with pm2-logrotate's words
#[rustfmt::skip]
pub(super) static LOG_ROTATE: &[Key<LogRotate>] = &[
    key!("size", ["max_size"], Is("\"10M\""), FileSize, |rotate, v| rotate.size = v.0,
        "no line is begun in a file that it would make longer than this; 0: any length"),
    key!("every", [], Is("0"), Turn, |rotate, v| rotate.every = v.0,
        "a line that comes in another hour, day or week (\"1h\", \"1d\", \"7d\", local time) than the one before it begins a file; 0: none"),
    key!("keep", ["retain"], Is("10"), Whole<0, 1000>, |rotate, v| rotate.keep = v.0 as u32,
        "how many old files stay, each as NAME__DATE_TIME with the ending of the file"),
    key!("gzip", ["compress"], Is("false"), bool, |rotate, v| rotate.gzip = v,
        "compress old files"),
];

/// `[pm3]`
#[rustfmt::skip]
pub(super) static SETTINGS: &[Key<Settings>] = &[
    key!("stop_budget", [], Is("\"9s\""), Millis, |pm3, v| pm3.stop_budget = v,
        "all that stopping everything may take, then SIGKILL; Docker's own patience is 10 s, Kubernetes' 30 s"),
    key!("exit_policy", [], Is("\"when-done\""), ExitPolicy, |pm3, v| pm3.exit = v,
        "when-done: pm3 ends when nothing runs that will run again; never: only when told to"),
    key!("settle_time", [], Is("\"200ms\""), Millis, |pm3, v| pm3.settle = v,
        "how long an end by TERM, INT or HUP, or with code 0, 129, 130 or 143, waits before a restart: pm3 may be about to get that signal too"),
    key!("sample_interval", [], Is("\"1s\""), Period, |pm3, v| pm3.sample_interval = v.0,
        "time between two looks at memory, while some app has max_memory_restart"),
    key!("runtime_dir", [], Rule("/run/pm3 for root, else $XDG_RUNTIME_DIR/pm3, else ~/.pm3"), FilePath,
        |pm3, v| pm3.runtime_dir = Some(v.0),
        "directory of the control socket"),
    key!("control", [], Is("true"), bool, |pm3, v| pm3.control = v,
        "false: no control socket, so no verbs"),
    key!("control_group", [], Unset, Account, |pm3, v| pm3.control_group = Some(v.0),
        "a group whose members may use the control socket, with control_right"),
    key!("control_right", [], Is("\"view\""), Right, |pm3, v| pm3.control_right = v,
        "what those may do: view, or operate (restart, stop, signal); root and pm3's own user may do all"),
    key!("log_level", [], Rule("info"), LogLevel, |pm3, v| pm3.log_level = Some(v.0),
        "how much pm3 itself says, where neither PM3_LOG nor RUST_LOG is set"),
    key!("log_dir", [], Rule("in the background ~/.pm3/logs; else there is none"), FilePath, |pm3, v| pm3.log_dir = Some(v.0),
        "where the output of apps goes that have no file: NAME-out.log and NAME-error.log in this directory; made if missing"),
    key!("termination_log", [], Unset, FilePath, |pm3, v| pm3.termination_log = Some(v.0),
        "a file that gets the reason why pm3 ended, or why an app is errored, with the app's last lines: Kubernetes' /dev/termination-log"),
];

/// Keys that PM2 knows and pm3 has none for: said so, instead of suggesting something else.
const PM2_ALONE: &[&str] = &[
    "automation",
    "deep_monitoring",
    "disable_source_map_support",
    "disable_trace",
    "event_loop_inspector",
    "execute_command",
    "install_url",
    "force",
    "io",
    "kill_retry_time",
    "name_prefix",
    "pid",
    "pid_file",
    "pmx",
    "post_update",
    "shutdown_with_message",
    "source_map_support",
    "trace",
    "v8",
    "vizion",
    "watch_options",
    "username",
    "windowsHide",
    "write",
];

/// The ending of `env_<profile>`.
const PROFILE: &str = "<profile>";

/// The row for a name as it stands in the file.
pub(super) fn find<T>(keys: &'static [Key<T>], name: &str) -> Option<&'static Key<T>> {
    let exact = keys.iter().find(|key| key.name == name || key.also.contains(&name));
    exact.or_else(|| keys.iter().find(|key| key.profile(name).is_some()))
}

/// Whether only PM2 has a use for a key.
pub(super) fn is_of_pm2_alone(name: &str) -> bool {
    PM2_ALONE.contains(&name)
}

/// Reads a table below an app's.
pub(super) fn below<T: Default>(keys: &'static [Key<T>], val: &Val<'_>) -> Result<T, Wrongs> {
    let target = RefCell::new(T::default());
    val.entries(|name, entry| {
        let Some(key) = find(keys, name) else {
            return Err(entry.wrong(Refused::Because(unknown(keys, name))));
        };
        (key.read)(&mut target.borrow_mut(), entry).map_err(|mut wrongs| {
            for wrong in wrongs.iter_mut().filter(|wrong| wrong.part.is_none()) {
                let why = std::mem::replace(&mut wrong.why, Refused::Expected);
                wrong.why = Refused::Because(why.text(key.expects));
            }
            wrongs
        })
    })?;
    Ok(target.into_inner())
}

/// What to say about a name that no row has.
pub(super) fn unknown<T>(keys: &'static [Key<T>], name: &str) -> String {
    let names = keys.iter().flat_map(|key| [key.name].into_iter().chain(key.also.iter().copied()));
    match nearest(name, names) {
        _ if PM2_ALONE.contains(&name) => "a key of PM2 that this version of pm3 does not have".into(),
        Some(meant) => format!("unknown key, did you mean {meant}?"),
        None => "unknown key; `pm3 check --keys` lists all".into(),
    }
}

impl<T> Key<T> {
    /// What stands for `<profile>` in a name, if this row has such names.
    pub(super) fn profile<'n>(&self, name: &'n str) -> Option<&'n str> {
        let profile = name.strip_prefix(self.name.strip_suffix(PROFILE)?)?;
        Some(profile).filter(|profile| !profile.is_empty())
    }
}

/// Every key with its kind, default and meaning, to be read by people.
pub fn keys() -> String {
    format!(
        "[[apps]]: one such table for each app\n\n{}\n[apps.health]: below an app, what its health is\n\n{}\n\
         [apps.log_rotate]: below an app, how its log files are rotated\n\n{}\n\
         [pm3]: pm3's own settings\n\n{}\n\
         In all text, ${{VAR}} and ${{VAR:-default}} stand for variables: of the app where it sets them, else of pm3; \
         $$ is a dollar.\n",
        reference(APP, ""),
        reference(HEALTH, "health."),
        reference(LOG_ROTATE, "log_rotate."),
        reference(SETTINGS, "")
    )
}

fn reference<T>(keys: &[Key<T>], within: &str) -> String {
    let row = |key: &Key<T>| {
        let default = match key.default {
            Is(value) => format!("    default: {value}\n"),
            Rule(rule) => format!("    default: {rule}\n"),
            Unset => String::new(),
        };
        let also = if key.also.is_empty() { String::new() } else { format!("    also: {}\n", key.also.join(", ")) };
        format!("  {within}{} = {}\n    {}\n{default}{also}", key.name, (key.expects)(), key.doc)
    };
    keys.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::{Facts, parse};
    use crate::supervisor::spec::Spec;

    fn read(text: &str) -> Spec {
        let facts = Facts { cpus: 1, memory_limit: None, env: Vec::new(), start_dir: "/".into() };
        parse("pm3.toml", text, Some("prod"), &facts).unwrap()
    }

    fn written<T>(key: &Key<T>) -> Option<String> {
        let name = key.name.replace(PROFILE, "prod");
        if let Is(value) = key.default { Some(format!("{name} = {value}\n")) } else { None }
    }

    #[test]
    fn a_default_is_what_is_meant_without_the_key() {
        let plain = "[[apps]]\nname = 'b'\nscript = 'b'\nenv_prod = {}\n[[apps]]\nscript = 'a'\n";
        for (text, name) in APP.iter().filter_map(|key| Some((format!("{plain}{}", written(key)?), key.name))) {
            assert_eq!(read(&text), read(plain), "{name}");
        }
        for (text, name) in
            SETTINGS.iter().filter_map(|key| Some((format!("{plain}[pm3]\n{}", written(key)?), key.name)))
        {
            assert_eq!(read(&text), read(plain), "{name}");
        }
    }

    #[test]
    fn no_two_rows_have_a_name_in_common() {
        fn check<T>(keys: &[Key<T>]) {
            let mut names: Vec<&str> =
                keys.iter().flat_map(|key| [key.name].into_iter().chain(key.also.iter().copied())).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            for alone in PM2_ALONE {
                assert!(!names.contains(alone), "{alone}");
            }
        }
        check(APP);
        check(HEALTH);
        check(LOG_ROTATE);
        check(SETTINGS);
    }
}
