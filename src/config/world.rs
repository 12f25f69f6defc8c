//! Whether what apps name is there: scripts, interpreters, users. A file is right or wrong without it, so `init` and
//! `check` do not ask; whoever starts apps by hand is told before anything is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Facts;
use crate::supervisor::spec::{AppSpec, Launch, Rare};

/// Somebody whom an app may run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// A name or a number.
    User(&'a str),
    Group(&'a str),
}

/// What of an app's program, interpreter, directory, user and group is not there: a line each. `known` looks an account
/// up. A relative directory starts at `facts.start_dir`.
pub fn absent(apps: &[AppSpec], facts: &Facts, known: &dyn Fn(Account<'_>) -> bool) -> Vec<String> {
    let of_app = |app: &AppSpec| {
        let problems = accounts(app.launch.rare.as_deref(), known).chain(program(app, facts));
        problems.map(|problem| format!("{}: {problem}", app.name)).collect::<Vec<_>>()
    };
    apps.iter().flat_map(of_app).collect()
}

/// The directory that an app runs in.
pub(super) fn home(launch: &Launch, facts: &Facts) -> PathBuf {
    launch.cwd.as_deref().map_or_else(|| facts.start_dir.clone(), |cwd| facts.start_dir.join(cwd))
}

fn accounts(rare: Option<&Rare>, known: &dyn Fn(Account<'_>) -> bool) -> impl Iterator<Item = String> {
    let user = rare.and_then(|rare| rare.user.as_deref()).filter(|user| !known(Account::User(user)));
    let group = rare.and_then(|rare| rare.group.as_deref()).filter(|group| !known(Account::Group(group)));
    let user = user.map(|user| format!("there is no user {user}"));
    user.into_iter().chain(group.map(|group| format!("there is no group {group}")))
}

fn program(app: &AppSpec, facts: &Facts) -> Option<String> {
    let launch = &app.launch;
    let home = home(launch, facts);
    if !home.is_dir() {
        return Some(format!("directory not found: {}", home.display()));
    }
    let own = launch.env.iter().find(|(name, _)| *name == "PATH").map(|(_, value)| value);
    let path = own.or_else(|| facts.var("PATH"));
    // Without the `.` of `./server`.
    let script: PathBuf = home.join(&*launch.script).components().collect();
    if let Some(interpreter) = launch.interpreter.first() {
        if find(interpreter, &home, path).is_none() {
            let missing = if interpreter.contains('/') { "is not there" } else { "is not in PATH" };
            return Some(format!("interpreter {interpreter} {missing}; --interpreter chooses another, or none"));
        }
        // A word such as -m is the interpreter's own affair.
        let there = launch.script.starts_with('-') || script.exists();
        return (!there).then(|| not_found(&script, launch, facts));
    }
    if script.is_file() && !is_executable(&script) {
        let script = script.display();
        return Some(format!("script is not executable: {script}; chmod +x, or name its interpreter"));
    }
    let there = script.is_file() || find(&launch.script, &home, path).is_some();
    (!there).then(|| not_found(&script, launch, facts))
}

/// A relative path starts in the app's directory, and many expect it where they are.
fn not_found(script: &Path, launch: &Launch, facts: &Facts) -> String {
    let (here, script) = (facts.start_dir.join(&*launch.script), script.display());
    if launch.cwd.is_none() || !here.is_file() {
        return format!("script not found: {script}");
    }
    let here: PathBuf = here.components().collect();
    format!("script not found: {script}, as its path starts in cwd; if {} is meant, name that", here.display())
}

/// Whether a name means a program, by the `PATH` of `facts`.
pub fn is_program(name: &str, facts: &Facts) -> bool {
    find(name, &facts.start_dir, facts.var("PATH")).is_some()
}

/// The program that a name means, as execvp(3) has it.
pub(super) fn find(program: &str, home: &Path, path: Option<&str>) -> Option<PathBuf> {
    /// What init looks through where there is no PATH.
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if program.contains('/') {
        return Some(home.join(program)).filter(|file| is_executable(file));
    }
    let dirs = path.unwrap_or(USUAL).split(':');
    dirs.map(|dir| home.join(dir).join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
