//! From an app's entry to a plan for `sys::spawn`: the argument list, where the program may be, the environment.

use std::ffi::{CString, OsString};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{listen, notify};
use crate::control::Environ;
use crate::control::role::{Known, LogFile};
use crate::supervisor::event::{Failure, RunId, Stage};
use crate::supervisor::instance::Instance;
use crate::supervisor::spec::{AppSpec, Kind, LogMode, Output, Rare, Ready, Settings, Shell, ShellVariable};
use crate::sys::fds::Range;
use crate::sys::spawn::{self, Intercept, Plan, Stream, c_string};
use crate::sys::users::Users;
use crate::sys::{again, errno};

/// What every launch needs to know of pm3 itself.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The limit of open files that pm3 was started with.
    pub(super) nofile: Option<Range>,
    /// Tells this pm3's runs from those of another one around or inside it.
    pub(super) nonce: Box<str>,
    /// Makes names that nobody can know before they are there.
    pub(super) secret: RandomState,
    /// `/proc` is there and shows this pm3: its program can be started once more, as one of its roles.
    pub(super) has_proc: bool,
    /// The name or number of the user that pm3 runs as, and with it each app that names none.
    pub(super) owner: Box<str>,
    /// Why nobody's calls can be held here, as an errno; None: they can.
    pub(super) unable: Option<i32>,
}

impl Origin {
    /// The value of `PM3_RUN`: carried by every process of the run that does not drop its environment.
    pub(super) fn mark(&self, run: RunId) -> String {
        format!("{}.{}", self.nonce, run.0)
    }

    /// What the run's socket for notices is called after. The mark alone is no name for it: every app knows its own, and
    /// could have the socket of the next run before pm3 has.
    pub(super) fn notice(&self, run: RunId) -> String {
        format!("{}.{:x}", self.mark(run), self.secret.hash_one(run.0))
    }
}

/// Variables that were meant for pm3 and would mislead an app: socket activation and readiness (sd_listen_fds(3),
/// sd_notify(3)), and Node's channel to what started pm3.
const OURS: [&str; 8] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", NOTIFY_SOCKET, WATCHDOG, "WATCHDOG_PID", CHANNEL_FD, CHANNEL_MODE];

/// Where an app that notifies does so, and how often it has to say that it is alive, in microseconds (sd_notify(3),
/// sd_watchdog_enabled(3)).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The descriptor of Node's channel to who started it, and how messages are written there.
const CHANNEL_FD: &str = "NODE_CHANNEL_FD";
const CHANNEL_MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";

/// The variable that a run's processes are known by.
const MARK: &str = "PM3_RUN";
/// Options that Node takes as if they were on its command line.
const NODE_OPTIONS: &str = "NODE_OPTIONS";

/// How to start this instance as this run.
///
/// # Errors
/// A text with a NUL in it.
pub(super) fn plan(
    app: &AppSpec,
    instance: &Instance,
    run: RunId,
    settings: &Settings,
    origin: &Origin,
) -> Result<Plan, Failure> {
    let launch = &app.launch;
    let rare = launch.rare.as_deref();
    let env = environment(app, instance, run, origin);
    let path = env.get("PATH").map(|value| value.as_bytes().to_vec());
    let argv = launch.words().map(|word| c_string(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let mut candidates = Vec::new();
    match launch.interpreter.first() {
        Some(interpreter) => candidates = spawn::candidates(interpreter.as_bytes(), path.as_deref())?,
        None => {
            // As PM2: a file in the working directory wins over one in PATH.
            if !launch.script.contains('/') {
                candidates.push(c_string(format!("./{}", launch.script))?);
            }
            candidates.append(&mut spawn::candidates(launch.script.as_bytes(), path.as_deref())?);
        }
    }
    let (stdout, stderr) = streams(app, instance, settings)?;
    let intercept = intercept(app, origin);
    if instance.spare && intercept == Intercept::No {
        return Err(cannot_hold(origin));
    }
    Ok(Plan {
        argv,
        candidates,
        stdout,
        stderr,
        limits: rare.map(|rare| rare.limits.to_vec()).unwrap_or_default(),
        umask: rare.and_then(|rare| rare.umask),
        nice: rare.and_then(|rare| rare.nice),
        oom_score_adj: rare.and_then(|rare| rare.oom_score_adj),
        no_new_privs: rare.and_then(|rare| rare.no_new_privs).unwrap_or(false),
        intercept,
        // A spare that is not held would open the port of those that serve.
        must_intercept: instance.spare,
        ..in_place(app, env, settings, origin)?
    })
}

/// How to start a process of pm3's own beside this run, with the run's ids, directory and environment. It is not of the
/// run's tree.
///
/// # Errors
/// A text with a NUL in it.
pub(super) fn visitor(
    app: &AppSpec,
    instance: &Instance,
    run: RunId,
    settings: &Settings,
    origin: &Origin,
) -> Result<Plan, Failure> {
    let mut env = environment(app, instance, run, origin);
    env.0.retain(|(name, _)| name != MARK && OURS.iter().all(|ours| name != ours));
    Ok(Plan { candidates: vec![again::SELF.to_owned()], ..in_place(app, env, settings, origin)? })
}

/// Where the processes of an app start, as whom and with which environment, but not yet what.
fn in_place(app: &AppSpec, env: Variables, settings: &Settings, origin: &Origin) -> Result<Plan, Failure> {
    let rare = app.launch.rare.as_deref();
    Ok(Plan {
        env: env.0.into_iter().map(variable).collect::<Result<Vec<_>, _>>()?,
        cwd: Some(c_string(directory(app, settings).into_os_string().into_vec())?),
        nofile: origin.nofile,
        user: rare.and_then(|rare| rare.user.clone()),
        group: rare.and_then(|rare| rare.group.clone()),
        ..Plan::default()
    })
}

/// The port that `PORT` names in an environment.
pub(super) fn port(env: &[CString]) -> Option<u16> {
    let value = env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PORT="))?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|port| *port > 0)
}

/// Whether the app's ports are to be pm3's.
fn shares_ports(app: &AppSpec) -> bool {
    app.kind == Kind::Service && !app.launch.rare.as_deref().is_some_and(|rare| rare.fork)
}

/// Whether what the app binds becomes pm3's: of every service that does not keep its sockets to itself.
fn intercept(app: &AppSpec, origin: &Origin) -> Intercept {
    if origin.unable.is_some() || !shares_ports(app) {
        return Intercept::No;
    }
    match app.launch.rare.as_deref().and_then(|rare| rare.no_new_privs) {
        Some(false) => Intercept::KeepingPrivileges,
        Some(true) | None => Intercept::Yes,
    }
}

/// Why a spare is not started that could not be held at its port.
fn cannot_hold(origin: &Origin) -> Failure {
    let (object, errno) = origin.unable.map_or(("", 0), |errno| ("seccomp", errno));
    let why = if errno == 0 { "its ports are its own".into() } else { errno::why(errno) };
    Failure { stage: Stage::Intercept, object: object.into(), errno, why, passing: false }
}

/// The file that an app runs, for people to see: as the app names it, in the directory that it starts in. A program
/// that may be in `$PATH` is left as it is.
pub(super) fn script(app: &AppSpec, settings: &Settings) -> PathBuf {
    let script = Path::new(&*app.launch.script);
    let is_file = !app.launch.interpreter.is_empty() || app.launch.script.contains('/');
    if !is_file {
        return script.to_path_buf();
    }
    // Without the dot of `./server.js`.
    directory(app, settings).join(script).components().collect()
}

/// The directory that an app starts in.
pub(super) fn directory(app: &AppSpec, settings: &Settings) -> PathBuf {
    let start = Path::new(&*settings.cwd);
    app.launch.cwd.as_deref().map_or_else(|| start.to_path_buf(), |cwd| start.join(cwd))
}

fn variable((name, value): (OsString, OsString)) -> Result<CString, Failure> {
    let mut text = name.into_vec();
    text.push(b'=');
    text.extend(value.into_vec());
    c_string(text)
}

/// What pm3 itself was given, for its apps.
fn inherited() -> Variables {
    Variables(std::env::vars_os().filter(|(name, _)| OURS.iter().all(|ours| name != ours)).collect())
}

/// What an app keeps of the environment of the client that starts it: where it differs from pm3's own.
pub(super) fn shell(environ: Environ) -> Shell {
    let own = inherited();
    // A client can only tell what is text.
    let texts = own.0.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let gone = texts.filter(|(name, _)| environ.iter().all(|(theirs, _)| **theirs != **name));
    let mut shell: Vec<ShellVariable> = gone.map(|(name, _)| (name.into(), None)).collect();
    for (name, value) in environ {
        let is_variable = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        let is_ours = OURS.iter().any(|ours| *name == **ours);
        let is_same = own.get(&name).is_some_and(|own| **own == *value);
        if is_variable && !is_ours && !is_same {
            shell.push((name, Some(value)));
        }
    }
    shell.into()
}

/// Saved apps bring their shells along, each its own copy of what is mostly the same: one copy is kept.
pub(super) fn share_shells(apps: &mut [AppSpec]) {
    let mut shared = Shell::default();
    for app in apps {
        if app.launch.shell == shared {
            app.launch.shell = shared.clone();
        } else {
            shared = app.launch.shell.clone();
        }
    }
}

/// What pm3 was given, as the shell changed it that started the app, the app's own variables over it, and the few that
/// tell an instance who it is.
fn environment(app: &AppSpec, instance: &Instance, run: RunId, origin: &Origin) -> Variables {
    let mut env = inherited();
    for (name, value) in app.launch.shell.variables() {
        match value {
            Some(value) => env.set(name, &**value),
            None => env.0.retain(|(known, _)| known.to_str() != Some(name)),
        }
    }
    let rare = app.launch.rare.as_deref();
    let unwanted = rare.map(|rare| &*rare.filter_env).unwrap_or_default();
    env.0.retain(|(name, _)| !unwanted.iter().any(|start| name.as_bytes().starts_with(start.as_bytes())));
    if let Some(user) = rare.and_then(|rare| rare.user.as_deref()) {
        home_of(user).into_iter().for_each(|(name, value)| env.set(name, value));
    }
    app.launch.env.iter().for_each(|(name, value)| env.set(name, value));
    if let Some(name) = rare.and_then(|rare| rare.increment_var.as_deref())
        && let Some(first) = env.get(name).and_then(|value| value.to_str()?.parse::<i64>().ok())
    {
        let value = first.saturating_add(i64::from(instance.index));
        env.set(name, value.to_string());
    }
    let number = rare.and_then(|rare| rare.instance_var.as_deref()).unwrap_or("NODE_APP_INSTANCE");
    let own: [(&str, String); 4] = [
        ("name", app.name.to_string()),
        ("pm_id", instance.id.to_string()),
        (number, instance.index.to_string()),
        (MARK, origin.mark(run)),
    ];
    own.into_iter().chain(listen::variables(app)).for_each(|(name, value)| env.set(name, value));
    // Where nobody sees what it binds. What it has of its own comes first, and is kept.
    if origin.unable.is_some()
        && shares_ports(app)
        && let Some(option) = listen::for_node(app)
    {
        let mut options = env.get(NODE_OPTIONS).cloned().unwrap_or_default();
        if !options.is_empty() {
            options.push(" ");
        }
        options.push(option);
        env.set(NODE_OPTIONS, options);
    }
    if *app.ready() == Ready::Message {
        // Behind the sockets.
        env.set(CHANNEL_FD, spawn::behind(app.listen().len()).to_string());
        env.set(CHANNEL_MODE, "json");
    }
    if app.notifies() {
        env.set(NOTIFY_SOCKET, notify::address(&origin.notice(run)));
    }
    if let Some(span) = app.watchdog() {
        env.set(WATCHDOG, span.span().as_micros().to_string());
    }
    env
}

/// An environment. A list: there are some dozens of variables, and a start reads each of them once.
struct Variables(Vec<(OsString, OsString)>);

impl Variables {
    fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.into(), value.into())),
        }
    }
}

/// What login(1) sets for a user. A number without an entry in /etc/passwd has no home.
fn home_of(user: &str) -> Vec<(&'static str, OsString)> {
    let users = Users::read();
    let known = users.by_name(user).or_else(|| user.parse().ok().and_then(|uid| users.by_uid(uid)));
    known.map_or_else(Vec::new, |known| {
        let name = OsString::from(&*known.name);
        vec![("USER", name.clone()), ("LOGNAME", name), ("HOME", OsString::from(&*known.home))]
    })
}

fn streams(app: &AppSpec, instance: &Instance, settings: &Settings) -> Result<(Stream, Stream), Failure> {
    let otherwise = || match app.launch.output.mode {
        LogMode::None => Stream::Null,
        // What would be collected where there is a logger is not lost where there can be none.
        LogMode::Auto | LogMode::Raw | LogMode::Prefix | LogMode::Json | LogMode::Inherit => Stream::Inherit,
    };
    let file = |path: &PathBuf| Ok(Stream::File(c_string(path.as_os_str().as_bytes())?));
    let Files { out, err, .. } = files(app, instance, settings);
    let stdout = out.as_ref().map_or_else(|| Ok(otherwise()), file)?;
    let stderr = match &err {
        Some(_) if err == out => Stream::Stdout,
        Some(path) => file(path)?,
        None => otherwise(),
    };
    Ok((stdout, stderr))
}

/// What the logger has to know of an instance.
pub(super) fn known(app: &AppSpec, instance: &Instance, settings: &Settings) -> Known {
    let (output, rare) = (&app.launch.output, app.launch.rare.as_deref());
    let Files { out, err, both } = files(app, instance, settings);
    let log_file = |path: &PathBuf, given: bool| {
        // A file that the app names is its user's; in pm3's own directory they are pm3's.
        let named = given || both.as_ref() == Some(path);
        let (user, group) =
            if named { rare.map(|rare| (rare.user.clone(), rare.group.clone())) } else { None }.unwrap_or_default();
        LogFile { path: path.to_string_lossy().into(), user, group, ours: !named }
    };
    Known {
        id: instance.id,
        app: app.name.clone(),
        mode: output.mode,
        date: rare.and_then(|rare| rare.log_date.clone()),
        memory: rare.and_then(|rare| rare.log_memory).unwrap_or(Rare::LOG_MEMORY),
        rotate: rare.and_then(|rare| rare.log_rotate.clone()),
        rate: rare.and_then(|rare| rare.log_rate),
        line_max: rare.and_then(|rare| rare.log_line_max),
        blocks: rare.is_some_and(|rare| rare.log_blocks),
        lossless: rare.is_some_and(|rare| rare.lossless),
        out: out.as_ref().map(|path| log_file(path, output.out.is_some())),
        err: err.as_ref().map(|path| log_file(path, output.err.is_some())),
        both: both.as_ref().map(|path| log_file(path, true)),
    }
}

/// The files that an instance's output goes to.
#[derive(Debug)]
pub(super) struct Files {
    /// Where stdout goes; None: to pm3's own.
    pub(super) out: Option<PathBuf>,
    /// The same of stderr.
    pub(super) err: Option<PathBuf>,
    /// Where both go; it may be one of those, and the only place.
    pub(super) both: Option<PathBuf>,
}

pub(super) fn files(app: &AppSpec, instance: &Instance, settings: &Settings) -> Files {
    let output = &app.launch.output;
    let usual = settings.log_dir.as_deref().filter(|_| output.mode.is_collected());
    let place = |path: &str| {
        let path = Path::new(&*settings.cwd).join(path);
        // There is one /dev/null for all.
        let apart = app.is_several() && !output.merge && !path.starts_with("/dev");
        if apart { numbered(&path, instance.id.0) } else { path }
    };
    let both = output.both.as_deref().map(place);
    let file = |given: &Option<Box<str>>, ending: &str| match given.as_deref() {
        Some(own) if Output::OWN.contains(&own) => None,
        Some(path) => Some(place(path)),
        None => usual.map(|dir| place(&format!("{dir}/{}-{ending}.log", app.name))).or_else(|| both.clone()),
    };
    Files { out: file(&output.out, "out"), err: file(&output.err, "error"), both }
}

/// PM2's name of an instance's own file: `logs/web.log` becomes `logs/web-3.log`.
fn numbered(path: &Path, id: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{id}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

/// The user that an app runs as.
pub(super) fn user<'a>(app: &'a AppSpec, origin: &'a Origin) -> &'a str {
    app.launch.rare.as_deref().and_then(|rare: &Rare| rare.user.as_deref()).unwrap_or(&origin.owner)
}
