//! `pm3 report`: what somebody who is to help has to know: versions, limits, counts. No names of apps, no paths of theirs,
//! no variables, so that it can be pasted where others read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::cli::Report;
use crate::cli::ask::Context;
use crate::control::Row;
use crate::supervisor::event::Size;
use crate::sys;

/// Print what a bug report needs: versions, limits, counts; no names and no secrets
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 report")]
pub(in crate::cli) struct Args {}

/// Interpreters and the like that apps are often started with.
const TOOLS: [&str; 4] = ["node", "python3", "ruby", "bun"];

pub(super) fn run(Args {}: &Args, context: &Context) -> Report {
    let mut out = String::new();
    let mut section = |title: &str, lines: &[(&str, String)]| {
        let _ = writeln!(out, "{title}");
        for (name, value) in lines {
            let _ = writeln!(out, "  {name:<22} {}", if value.is_empty() { "unknown" } else { value });
        }
    };
    section("pm3", &client());
    section("machine", &machine());
    section("limits", &limits());
    section("supervisor", &supervisor(context));
    Report::done(out)
}

fn client() -> Vec<(&'static str, String)> {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "glibc" };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", format!("{build}, {}, {libc}", std::env::consts::ARCH)),
        ("pid 1 is", first_line("/proc/1/comm")),
        ("uid", sys::place::uid().to_string()),
    ]
}

fn machine() -> Vec<(&'static str, String)> {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let cgroup = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
        "v2"
    } else if fs::exists("/sys/fs/cgroup/memory").unwrap_or(false) {
        "v1"
    } else {
        "none"
    };
    let memory = sys::cgroup::memory_of_machine().map(|bytes| Size(bytes).to_string()).unwrap_or_default();
    let found: Vec<&str> = TOOLS.into_iter().filter(|tool| is_in_path(tool)).collect();
    vec![
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("system", name.trim_matches('"').to_owned()),
        ("memory", memory),
        ("cgroups", cgroup.to_owned()),
        ("/proc is its own", yes(sys::place::has_own_proc())),
        ("seccomp", status_line("Seccomp:").to_owned()),
        ("in $PATH", if found.is_empty() { "none of them".to_owned() } else { found.join(", ") }),
    ]
}

fn limits() -> Vec<(&'static str, String)> {
    let memory = sys::cgroup::memory_limit().map_or_else(|| "none".to_owned(), |bytes| Size(bytes).to_string());
    vec![
        ("processors", sys::cgroup::cpus().to_string()),
        ("memory of container", memory),
        ("open files", limit("Max open files")),
        ("processes", limit("Max processes")),
        ("inotify watches", first_line("/proc/sys/fs/inotify/max_user_watches")),
        ("inotify instances", first_line("/proc/sys/fs/inotify/max_user_instances")),
        ("pids", first_line("/proc/sys/kernel/pid_max")),
    ]
}

fn supervisor(context: &Context) -> Vec<(&'static str, String)> {
    let asked = context.connect().and_then(|mut client| client.list().map(|rows| (client, rows)));
    match asked {
        Ok((client, rows)) => {
            let private = private_bytes(client.pid).map(|bytes| Size(bytes).to_string()).unwrap_or_default();
            vec![
                ("version", client.release.to_string()),
                ("pid", client.pid.to_string()),
                ("socket", client.address.to_string()),
                ("private memory", private),
                ("apps", counts(&rows)),
            ]
        }
        Err(error) => vec![("none", error.to_string())],
    }
}

/// `3 apps, 7 instances: 6 online, 1 errored`
fn counts(rows: &[Row]) -> String {
    let apps: std::collections::BTreeSet<&str> = rows.iter().map(|row| &*row.name).collect();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *states.entry(&row.status).or_default() += 1);
    let states: Vec<String> = states.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    let restarts: u64 = rows.iter().map(|row| u64::from(row.restarts)).sum();
    let list = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    format!("{} apps, {} instances{list}; {restarts} restarts", apps.len(), rows.len())
}

/// Of `Max open files            1024                 524288               files`: the soft limit and the hard one.
fn limit(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" of ")
}

fn status_line(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    match value.trim() {
        "0" => "off".to_owned(),
        "1" => "strict".to_owned(),
        "2" => "filter".to_owned(),
        other => other.to_owned(),
    }
}

/// None where it is not for us to know: another user's process, another pid namespace.
fn private_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    Some(text.lines().filter(|line| line.starts_with("Private_")).filter_map(kilobytes).sum::<u64>() << 10)
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
