//! One app: from the values of its keys to its [`AppSpec`], with what one key means for another, and the defaults that
//! depend on others.

use std::cell::RefCell;
use std::path::Path;

use super::kinds::{Instances, Name};
use super::several::{EnvFiles, Names, Watched, Words};
use super::value::{Dialect, Scalar, Scope, Value};
use super::words::Dollars;
use super::{date, world};
use crate::supervisor::event::Sig;
use crate::supervisor::spec::{AppSpec, Kind, Launch, LogMode, Output, Rare, Ready, Restart, ShellVariable, Watch};

/// The values of an app's keys, as far as they do not have a place in the spec already.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) spec: AppSpec,
    pub(super) rare: Rare,
    pub(super) name: Option<Box<str>>,
    pub(super) name_with_profile: bool,
    pub(super) script: Option<Box<str>>,
    /// None: not given; an empty list says that there are none.
    pub(super) args: Option<Words>,
    pub(super) command: Option<String>,
    pub(super) shell: bool,
    pub(super) interpreter: Option<Box<str>>,
    pub(super) interpreter_args: Words,
    pub(super) shell_env: Vec<ShellVariable>,
    pub(super) env: Vec<(String, String)>,
    pub(super) env_files: EnvFiles,
    pub(super) instances: Option<u32>,
    pub(super) after: Names,
    pub(super) requires: Names,
    pub(super) restart: Option<Restart>,
    pub(super) wait_ready: bool,
    pub(super) watch: Watched,
    /// `ignore_watch` and `watch_delay`, which mean nothing without `watch`.
    pub(super) watching: Watch,
    pub(super) log_mode: Option<LogMode>,
    pub(super) time: bool,
    pub(super) out_file: Option<Box<str>>,
    pub(super) error_file: Option<Box<str>>,
    pub(super) log_file: Option<Box<str>>,
}

impl Draft {
    pub(super) fn new(dialect: Dialect) -> Draft {
        let mut draft = Draft::default();
        if dialect == Dialect::Pm2 {
            draft.spec.stop.signal = PM2_SIGNAL;
        }
        draft
    }
}

/// What asks an app to stop whose file was written for PM2: its handlers wait for this one.
const PM2_SIGNAL: Sig = Sig::INT;

/// Keys that do not go together, or one that is missing: the one to point at, and why.
pub(super) struct Clash {
    pub(super) key: &'static str,
    pub(super) why: String,
}

/// The program that runs a script, by the script's ending, as PM2 has it.
const INTERPRETERS: &[(&str, &str)] = &[
    ("js", "node"),
    ("mjs", "node"),
    ("cjs", "node"),
    ("py", "python"),
    ("sh", "bash"),
    ("rb", "ruby"),
    ("php", "php"),
    ("pl", "perl"),
    ("ts", "bun"),
    ("tsx", "bun"),
];

/// The variable with the instance's number that PM2 sets.
const INSTANCE_VAR: &str = "NODE_APP_INSTANCE";

/// Where Heroku and others say how many processes a web server should have.
const WEB_CONCURRENCY: &str = "WEB_CONCURRENCY";

/// The log_mode of apps that say nothing: a container's platform may want JSON of whatever runs in it.
const LOG_MODE: &str = "PM3_LOG_MODE";

/// The spec of an app, as far as it does not depend on other apps; and all its clashes.
pub(super) fn finish(mut draft: Draft, profile: Option<&str>, scope: &Scope<'_>) -> (AppSpec, Vec<Clash>) {
    let mut clashes = Clashes(Vec::new());
    as_pm2_reads_it(&mut draft, scope);
    let name = draft.name.take().map(String::from);
    let name = name.or_else(|| default_name(draft.script.as_deref(), draft.command.as_deref()));
    program(&mut draft, scope, &mut clashes);
    if name.is_none() && clashes.0.is_empty() {
        clashes.at("name", "no name, and none can be made of what it runs; give it one");
    }
    let mut name = name.unwrap_or_default();
    if let Some(profile) = profile.filter(|_| draft.name_with_profile) {
        name = format!("{name}-{profile}");
        if let Err(why) = Name::check(&name) {
            clashes.at("append_env_to_name", format!("{name} is no name for an app: {}", why.text(Name::expects)));
        }
    }
    draft.spec.instances = draft.instances.or_else(|| web_concurrency(&name, scope, &mut clashes)).unwrap_or(1);
    draft.spec.name = name.into();
    policy(&mut draft, &mut clashes);
    watch(&mut draft, scope);
    output(&mut draft, scope, &mut clashes);
    readiness(&mut draft, &mut clashes);
    increment(&draft, scope, &mut clashes);
    sockets(&draft, &mut clashes);
    spares(&mut draft, &mut clashes);

    let mut spec = draft.spec;
    let mut env = scope.own.clone();
    let is_python = spec.launch.interpreter.first().is_some_and(|program| program.contains("python"));
    if matches!(scope.dialect, Dialect::Pm2 | Dialect::Options) && is_python {
        // As PM2: Python would hold its output back until it has a page of it, and logs would stay empty.
        env.entry("PYTHONUNBUFFERED".into()).or_insert_with(|| "1".into());
    }
    spec.namespace = spec.namespace.filter(|namespace| &**namespace != "default");
    spec.launch.shell = scope.shell.clone().into();
    spec.launch.env = env.into_iter().collect();
    draft.rare.instance_var = draft.rare.instance_var.filter(|name| &**name != INSTANCE_VAR);
    spec.launch.rare = (draft.rare != Rare::default()).then(|| Box::new(draft.rare));
    (spec, clashes.0)
}

/// Letters of a command line that mean something to a shell alone. Without them none is needed, and the app's process is
/// the program itself, which gets the signals. PM2 gives every command line to bash.
pub(super) const SHELL: &[char] = &['|', '&', ';', '<', '>', '(', ')', '`', '$', '*', '?', '[', '~', '\n'];

/// Where a file was written for PM2, or a command line: a script with blanks is a command line, `command` is another word
/// for script, and `~` is the home.
fn as_pm2_reads_it(draft: &mut Draft, scope: &Scope<'_>) {
    match scope.dialect {
        Dialect::Native | Dialect::Spec => return,
        Dialect::Pm2 | Dialect::Options => {}
    }
    let Draft { spec, out_file, error_file, log_file, .. } = draft;
    for path in [&mut spec.launch.cwd, out_file, error_file, log_file].into_iter().flatten() {
        if let Some(below) = path.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with('/')) {
            *path = format!("{}{below}", scope.lookup("HOME").unwrap_or_default()).into();
        }
        if &**path == "NULL" {
            *path = "/dev/null".into();
        }
    }
    if draft.script.is_none() && !draft.shell {
        draft.script = draft.command.take().map(String::into_boxed_str);
    }
    let itself = draft.interpreter.as_deref().is_none_or(|program| program == "none");
    let is_line = |script: &str| {
        script.contains(char::is_whitespace) && !world::home(&spec.launch, scope.facts).join(script).exists()
    };
    if itself && draft.args.is_none() && draft.script.as_deref().is_some_and(is_line) {
        draft.command = draft.script.take().map(String::from);
        // `PORT=80 node server.js` is for a shell, too.
        let first_sets = |line: &str| line.split_whitespace().next().is_some_and(|word| word.contains('='));
        draft.shell = draft.command.as_deref().is_some_and(|line| line.contains(SHELL) || first_sets(line));
        draft.interpreter = None;
    }
}

struct Clashes(Vec<Clash>);

impl Clashes {
    fn at(&mut self, key: &'static str, why: impl Into<String>) {
        self.0.push(Clash { key, why: why.into() });
    }
}

/// The name for an app that has none: its script's or program's, without the ending. None: that would be no good name.
pub(super) fn default_name(script: Option<&str>, command: Option<&str>) -> Option<String> {
    // Of a command only the first word is looked at, as it stands.
    let program = script.or_else(|| command?.split_whitespace().next())?;
    let stem = Path::new(program).file_stem()?.to_str()?;
    let plain = !stem.contains(['$', '(', '{', ';', '&', '|', '<', '>', '`']);
    (plain && Name::check(stem).is_ok()).then(|| stem.to_owned())
}

fn web_concurrency(name: &str, scope: &Scope<'_>, clashes: &mut Clashes) -> Option<u32> {
    let count = scope.lookup(WEB_CONCURRENCY).filter(|count| name == "web" && !count.is_empty())?;
    let instances = Instances::parse(&count, scope.facts).ok();
    if instances.is_none() {
        clashes.at(
            "instances",
            format!("instances from ${WEB_CONCURRENCY}, {count:?}: expected a number; or set instances"),
        );
    }
    instances.map(|instances| instances.0)
}

/// What is run: interpreter, script and arguments.
fn program(draft: &mut Draft, scope: &Scope<'_>, clashes: &mut Clashes) {
    let words = Resolver::new(draft, scope);
    let launch = &mut draft.spec.launch;
    match (draft.script.take(), draft.command.take()) {
        (Some(_), Some(_)) => return clashes.at("command", "script is set too; one of them says what to run"),
        (None, None) => return clashes.at("script", "nothing to run; add script = \"…\" or command = \"…\""),
        (Some(_), None) if draft.shell => {
            return clashes.at("shell", "expected a command for the shell, in place of script");
        }
        (Some(script), None) => {
            let here = world::home(launch, scope.facts).join(&*script);
            if script.contains(char::is_whitespace) && draft.args.is_none() && !here.exists() {
                clashes.at("script", "has blanks in it and is no file; a command line goes into command");
            }
            let args = draft.args.take().unwrap_or_default();
            launch.args = words.resolve("args", &args, clashes).unwrap_or_default().into_iter().collect();
            launch.script = script;
        }
        (None, Some(line)) => {
            if draft.args.as_ref().is_some_and(|args| !args.is_empty()) {
                clashes.at("args", "command holds its arguments itself; they go in there, or use script");
            }
            if draft.shell {
                if draft.interpreter.is_some() {
                    clashes.at("interpreter", "with shell = true the interpreter is /bin/sh");
                }
                launch.script = "/bin/sh".into();
                launch.args = ["-c".into(), line.into()].into();
                return;
            }
            let resolved = words.resolve("command", &Words::Line(line), clashes);
            let mut line = resolved.unwrap_or_default().into_vec();
            if line.is_empty() {
                if clashes.0.is_empty() {
                    clashes.at("command", "its variables are empty, so there is nothing to run");
                }
                return;
            }
            launch.script = line.remove(0);
            launch.args = line.into_iter().collect();
            // A command line says itself what runs it, so an ending means nothing.
            draft.interpreter.get_or_insert_with(|| "none".into());
        }
    }
    let usual = || by_ending(&launch.script).map(|program| there_is(program, launch, scope).into());
    let interpreter = draft.interpreter.take().or_else(usual).filter(|program| &**program != "none");
    let arguments = words.resolve("interpreter_args", &draft.interpreter_args, clashes).unwrap_or_default();
    match interpreter {
        Some(program) => launch.interpreter = [program].into_iter().chain(arguments).collect(),
        None if !arguments.is_empty() => clashes.at("interpreter_args", "there is no interpreter; set interpreter too"),
        None => {}
    }
}

/// The program that runs a script, by the script's ending.
pub(super) fn by_ending(script: &str) -> Option<&'static str> {
    let ending = Path::new(script).extension()?.to_str()?;
    INTERPRETERS.iter().find(|(known, _)| *known == ending).map(|(_, program)| *program)
}

/// Where there is no `python`, but `python3`, that one is meant.
fn there_is(program: &'static str, launch: &Launch, scope: &Scope<'_>) -> &'static str {
    let (home, path) = (world::home(launch, scope.facts), scope.lookup("PATH"));
    let lacks = |program: &str| world::find(program, &home, path.as_deref()).is_none();
    if program == "python" && lacks("python") && !lacks("python3") { "python3" } else { program }
}

/// Replaces variables in words, and knows those that it must not replace because each instance has its own.
struct Resolver<'a> {
    scope: &'a Scope<'a>,
    per_instance: Vec<Box<str>>,
}

impl<'a> Resolver<'a> {
    fn new(draft: &Draft, scope: &'a Scope<'a>) -> Resolver<'a> {
        let instance = draft.rare.instance_var.clone().unwrap_or_else(|| INSTANCE_VAR.into());
        Resolver { scope, per_instance: draft.rare.increment_var.clone().into_iter().chain([instance]).collect() }
    }

    /// None: a clash was reported.
    fn resolve(&self, key: &'static str, words: &Words, clashes: &mut Clashes) -> Option<Box<[Box<str>]>> {
        let differing: RefCell<Option<String>> = RefCell::default();
        let lookup = |name: &str| {
            if self.per_instance.iter().any(|own| &**own == name) {
                differing.replace(Some(name.to_owned()));
            }
            self.scope.lookup(name)
        };
        let dollars = match self.scope.dialect.dollars() {
            Dollars::Kept => Dollars::Kept,
            Dollars::Braced | Dollars::Plain => Dollars::Plain,
        };
        let result = words.resolve(dollars, &lookup);
        let why = match (differing.take(), result) {
            (Some(name), _) => {
                format!("{name} differs between instances; in a command with shell = true, sh replaces it")
            }
            (None, Ok(words)) => return Some(words),
            (None, Err(why)) => why,
        };
        clashes.at(key, why);
        None
    }
}

/// Restarts.
fn policy(draft: &mut Draft, clashes: &mut Clashes) {
    let spec = &mut draft.spec;
    let usual = match spec.kind {
        Kind::Service => Restart::Always,
        Kind::Oneshot => Restart::Never,
    };
    spec.restart.when = draft.restart.unwrap_or(usual);
    if spec.kind == Kind::Oneshot && spec.restart.when == Restart::Always {
        clashes.at("autorestart", "a oneshot that always starts again is never done; expected on-failure or never");
    }
}

/// When it is ready, and whether it is well.
fn readiness(draft: &mut Draft, clashes: &mut Clashes) {
    let Draft { spec, rare, wait_ready, .. } = draft;
    match &rare.ready {
        Ready::Executing if *wait_ready => rare.ready = Ready::Message,
        Ready::Message => {}
        _ if *wait_ready => clashes.at("wait_ready", "ready is set too; wait_ready is ready = \"message\""),
        Ready::Listening if rare.fork => {
            clashes.at(
                "ready",
                "with exec_mode = \"fork\" pm3 does not see when it listens; expected health, or another word",
            );
        }
        Ready::Healthy if spec.health.is_none() => {
            clashes.at("ready", "nothing says what healthy is; add [apps.health]");
        }
        Ready::Line(_) if !spec.launch.output.mode.is_collected() => {
            let why = "with log_mode inherit or none pm3 does not read what it writes; expected raw, prefix or json";
            clashes.at("ready", why);
        }
        Ready::Executing
        | Ready::Listening
        | Ready::Notify
        | Ready::Healthy
        | Ready::Descriptor(_)
        | Ready::Line(_) => {}
    }
    if spec.kind == Kind::Oneshot {
        if spec.health.is_some() {
            clashes.at("health", "a oneshot runs to its end, which says whether it went well");
        }
        if rare.watchdog.is_some() {
            clashes.at("watchdog", "a oneshot runs to its end, and is not replaced");
        }
    }
}

/// What is watched, from here on by absolute paths.
fn watch(draft: &mut Draft, scope: &Scope<'_>) {
    let home = world::home(&draft.spec.launch, scope.facts);
    let absolute = |path: &str| -> Box<str> { home.join(path).to_string_lossy().into() };
    let paths = match std::mem::take(&mut draft.watch) {
        Watched::Nothing if draft.watching == Watch::default() => return,
        // What was said of it holds when somebody switches it on.
        Watched::Nothing => {
            draft.watching.off = true;
            Box::default()
        }
        Watched::Here => [home.to_string_lossy().into()].into(),
        Watched::Paths(paths) => paths.iter().map(|path| absolute(path)).collect(),
    };
    draft.spec.watch = Some(Box::new(Watch { paths, ..std::mem::take(&mut draft.watching) }));
}

/// Where output goes.
fn output(draft: &mut Draft, scope: &Scope<'_>, clashes: &mut Clashes) {
    let home = world::home(&draft.spec.launch, scope.facts);
    // Absolute from here on: whoever opens it stands somewhere else.
    let absolute = |path: Box<str>| -> Box<str> { home.join(&*path).to_string_lossy().into() };
    let output = &mut draft.spec.launch.output;
    let given = scope.facts.var(LOG_MODE).filter(|mode| !mode.is_empty() && draft.log_mode.is_none());
    if let Some(Err(_)) = given.map(|mode| LogMode::parse(mode, scope.facts)) {
        let expected = <LogMode as Scalar>::expects();
        clashes.at(
            "log_mode",
            format!("log_mode from ${LOG_MODE}, {}: expected {expected}; or set log_mode", given.unwrap_or_default()),
        );
    }
    let given = given.and_then(|mode| LogMode::parse(mode, scope.facts).ok());
    output.mode = draft.log_mode.or(given).unwrap_or_default();
    if draft.time {
        draft.rare.log_date.get_or_insert_with(|| date::USUAL.into());
    }
    draft.rare.log_memory = draft.rare.log_memory.filter(|bytes| *bytes != Rare::LOG_MEMORY);
    let files = [
        ("out_file", &mut draft.out_file, Some(Output::OWN[0])),
        ("error_file", &mut draft.error_file, Some(Output::OWN[1])),
        ("log_file", &mut draft.log_file, None),
    ];
    let is_beside = files.iter().any(|(key, file, _)| *key == "log_file" && file.is_some());
    for (key, file, own) in files {
        if file.is_some() && file.as_deref() == own && output.mode != LogMode::None {
            // Beside log_file it says something.
            if !is_beside {
                *file = None;
            }
        } else if file.as_deref().is_some_and(|file| Output::OWN.contains(&file)) {
            let only = "only out_file = \"/dev/stdout\" and error_file = \"/dev/stderr\" mean pm3's own";
            clashes.at(key, only);
        }
    }
    if !output.mode.is_collected() {
        let Rare { log_rotate, log_rate, log_line_max, log_blocks, lossless, .. } = &mut draft.rare;
        let through_logger = [
            ("log_rotate", log_rotate.take().is_some()),
            ("log_rate", log_rate.take().is_some()),
            ("log_line_max", log_line_max.take().is_some()),
            ("log_on_full", std::mem::take(log_blocks)),
            ("lossless", std::mem::take(lossless)),
        ];
        // What is said of all apps does not make this one's file wrong.
        for (key, _) in through_logger.into_iter().filter(|(_, given)| *given && draft.log_mode.is_some()) {
            clashes
                .at(key, "with log_mode = \"inherit\" or \"none\" no output goes through pm3, which would see to that");
        }
    }
    output.out = draft.out_file.take().map(absolute);
    output.err = draft.error_file.take().map(absolute);
    output.both = draft.log_file.take().map(absolute);
    if !output.mode.is_collected() && output.both.is_some() && (output.out.is_some() || output.err.is_some()) {
        let one = "out_file or error_file is set too; without the logger each stream has one place";
        clashes.at("log_file", format!("{one}: log_file for both, or the other two"));
    }
}

/// The growing variable must be able to grow.
fn increment(draft: &Draft, scope: &Scope<'_>, clashes: &mut Clashes) {
    // The variables of an app that runs may be init's, and are not known here.
    if scope.dialect == Dialect::Spec {
        return;
    }
    if let Some(name) = &draft.rare.increment_var {
        match scope.lookup(name) {
            None => clashes.at("increment_var", format!("{name} is not set; give it its first value in env")),
            Some(value) if value.parse::<u32>().is_err() => {
                clashes.at("increment_var", format!("the value of {name} is not a number that could grow"));
            }
            Some(_) => {}
        }
    }
}

/// Spares, where there is something to hold them at and something to do for them.
fn spares(draft: &mut Draft, clashes: &mut Clashes) {
    let Draft { spec, rare, .. } = draft;
    if spec.spares() == 0 {
        // Their age means nothing.
        return spec.standby = None;
    }
    let why = if spec.kind == Kind::Oneshot {
        "a oneshot runs to its end, and has no port; a spare is for a service"
    } else if rare.fork {
        "with exec_mode = \"fork\" each process opens its own port, and none can be held there; leave one of them out"
    } else if !rare.listen.is_empty() {
        "what listen names is handed over at the start, so nothing holds a spare back; leave one of them out"
    } else if spec.restart.when == Restart::Never {
        "with autorestart = \"never\" nothing follows an instance that has ended; leave one of them out"
    } else {
        return;
    };
    clashes.at("standby", why);
}

/// Sockets that are handed out, for whom that has a meaning.
fn sockets(draft: &Draft, clashes: &mut Clashes) {
    let count = draft.rare.listen.len();
    if draft.spec.kind == Kind::Oneshot && count > 0 {
        clashes.at("listen", "a oneshot runs to its end; who is to be reached is a service");
    }
    if let Ready::Descriptor(number) = draft.rare.ready
        && count > 0
        && usize::from(number) < 3 + count
    {
        clashes.at("ready", format!("descriptor {number} is a socket of listen; the first free one is {}", 3 + count));
    }
}
