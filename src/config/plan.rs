//! The plan for people, as `pm3 check` prints it: a short block for each app with what differs from the usual, then the
//! order, the end, and what is allowed but may surprise. Values of variables are left out: the text ends up in logs.

use std::fmt::Write;

use super::units::show_millis;
use super::words;
use crate::supervisor::event::{Millis, Sig, Size};
use crate::supervisor::graph;
use crate::supervisor::spec::{
    AppSpec, ExitPolicy, Input, Kind, Limit, LogMode, Output, Rare, Restart, RestartPolicy, Settings, Spec, Standby,
    StopPolicy, Watch,
};
use crate::supervisor::texts::Pairs;

/// How many names of variables are shown.
const NAMES_MAX: usize = 8;

/// A readable form of the plan.
pub fn plan_text(spec: &Spec) -> String {
    let instances: u32 = spec.apps.iter().map(|app| app.instances).sum();
    let mut text = format!("{}, {}\n", count(spec.apps.len(), "app"), count(instances as usize, "instance"));
    for app in &spec.apps {
        block(app, &mut text);
    }
    text.push('\n');
    order(&spec.apps, &mut text);
    ending(spec, &mut text);
    surprises(spec, &mut text);
    text
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn block(app: &AppSpec, text: &mut String) {
    text.push('\n');
    text.push_str(&app.name);
    if app.instances > 1 {
        let _ = write!(text, " × {}", app.instances);
    }
    if app.kind == Kind::Oneshot {
        text.push_str(", oneshot");
    }
    if let Some(namespace) = &app.namespace {
        let _ = write!(text, ", in namespace {namespace}");
    }
    text.push('\n');
    let launch = &app.launch;
    let lines = [
        ("run", Some(words::join(launch.words()))),
        ("in", launch.cwd.as_deref().map(str::to_owned)),
        ("as", launch.rare.as_deref().and_then(identity)),
        ("with", names(&launch.env)),
        ("without", launch.rare.as_deref().and_then(without)),
        ("start", (!app.autostart).then(|| "not by itself".to_owned())),
        ("after", waits(app)),
        ("restart", Some(restart(&app.restart))),
        ("ports", launch.rare.as_deref().filter(|rare| rare.fork).map(|_| "its own, not shared".to_owned())),
        ("listen", (!app.listen().is_empty()).then(|| app.listen().join(", "))),
        ("standby", app.standby.as_deref().map(standby)),
        ("memory", app.memory_limit.map(|limit| format!("restarted above {}", Size(limit)))),
        ("cron", app.cron.as_deref().map(|cron| format!("restarted at {cron}, local time"))),
        ("overlap", app.overlap.map(|may| if may { "always" } else { "never" }.to_owned())),
        ("watch", app.watch.as_deref().filter(|watch| !watch.off).map(watch)),
        ("stop", (app.stop != StopPolicy::default()).then(|| stop(&app.stop))),
        ("stdin", launch.rare.as_deref().and_then(input)),
        ("output", output(&launch.output)),
        ("limits", launch.rare.as_deref().and_then(|rare| limits(&rare.limits))),
    ];
    for (label, line) in lines {
        if let Some(line) = line {
            let _ = writeln!(text, "  {label:<8} {line}");
        }
    }
}

fn standby(standby: &Standby) -> String {
    let age = if standby.max_age == Millis::ZERO {
        String::new()
    } else {
        format!(", replaced after {}", show_millis(standby.max_age))
    };
    format!("{}{age}", count(standby.count as usize, "spare"))
}

fn identity(rare: &Rare) -> Option<String> {
    let parts = [
        rare.user.as_deref().map(|user| format!("user {user}")),
        rare.group.as_deref().map(|group| format!("group {group}")),
        rare.umask.map(|umask| format!("umask {umask:03o}")),
        rare.nice.map(|nice| format!("nice {nice}")),
        rare.oom_score_adj.map(|adj| format!("oom_score_adj {adj}")),
        rare.no_new_privs.filter(|set| *set).map(|_| "no new privileges".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn names(env: &Pairs) -> Option<String> {
    let shown: Vec<&str> = env.iter().take(NAMES_MAX).map(|(name, _)| name).collect();
    let more = env.iter().count().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

fn without(rare: &Rare) -> Option<String> {
    let names: Vec<&str> = rare.filter_env.iter().map(|name| &**name).collect();
    match names.as_slice() {
        [] => None,
        all if all.contains(&"") => Some("pm3's own environment".to_owned()),
        some => Some(format!("{}… of pm3's own environment", some.join("…, "))),
    }
}

fn waits(app: &AppSpec) -> Option<String> {
    let requires = app.requires.iter().map(|name| format!("{name} (required)"));
    let after = app.after.iter().filter(|name| !app.requires.contains(name)).map(ToString::to_string);
    let all: Vec<String> = requires.chain(after).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn restart(policy: &RestartPolicy) -> String {
    let mut text = match policy.when {
        Restart::Never => return "never".to_owned(),
        Restart::Always => "always".to_owned(),
        Restart::OnFailure => "on failure".to_owned(),
    };
    if policy.delay > Millis::ZERO {
        let _ = write!(text, ", after {}", show_millis(policy.delay));
    }
    if policy.backoff > Millis::ZERO {
        let _ = write!(text, ", waiting {} and ever longer, up to 15s", show_millis(policy.backoff));
    }
    if policy.jitter_percent > 0 {
        let _ = write!(text, ", each wait up to {}% longer", policy.jitter_percent);
    }
    if !policy.stop_exit_codes.is_empty() {
        let codes: Vec<String> = policy.stop_exit_codes.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", not after exit {}", codes.join(", "));
    }
    if policy.max_restarts == u32::MAX {
        text.push_str("; never errored");
    } else {
        let runs = count(policy.max_restarts as usize, "run");
        let _ = write!(text, "; errored after {runs} in a row under {}", show_millis(policy.min_uptime));
    }
    text
}

fn watch(watch: &Watch) -> String {
    let mut text = format!("restarted on changes in {}", watch.paths.join(", "));
    if !watch.ignore.is_empty() {
        let _ = write!(text, ", but not {}", watch.ignore.join(", "));
    }
    if watch.delay > Millis::ZERO {
        let _ = write!(text, ", after {} of quiet", show_millis(watch.delay));
    }
    text
}

fn stop(policy: &StopPolicy) -> String {
    let rest = if policy.tree { "" } else { "; what outlives the main process is left alone" };
    match policy.signal {
        Sig::KILL => format!("SIGKILL{rest}"),
        signal => format!("{signal}, SIGKILL after {}{rest}", show_millis(policy.timeout)),
    }
}

fn input(rare: &Rare) -> Option<String> {
    match rare.stdin {
        Input::Null => None,
        Input::Pipe => Some("what `pm3 send` and `pm3 attach` send".to_owned()),
    }
}

fn output(output: &Output) -> Option<String> {
    let rest = match output.mode {
        LogMode::Auto => "pm3's own",
        LogMode::Inherit => "pm3's own, held by the app itself",
        LogMode::None => "nowhere",
        LogMode::Raw => "pm3's own, by way of the logger",
        LogMode::Prefix => "pm3's own, each line with its app's name",
        LogMode::Json => "pm3's own, each line a JSON object",
    };
    let merged = if output.merge { ", all instances together" } else { "" };
    let both = output.both.as_deref();
    let beside = both.map(|both| format!(", both in {both}")).unwrap_or_default();
    // Where there is a file for both and no other, it is that alone.
    let place = |given: Option<&str>| match given {
        Some(own) if Output::OWN.contains(&own) => rest.to_owned(),
        given => given.or(both).unwrap_or(rest).to_owned(),
    };
    match (output.out.as_deref(), output.err.as_deref()) {
        (None, None) => both.map_or_else(
            || (output.mode != LogMode::default()).then(|| rest.to_owned()),
            |both| Some(format!("{both}{merged}")),
        ),
        (Some(out), Some(err)) if out == err => Some(format!("{out}{beside}{merged}")),
        (out, err) => Some(format!("{}, errors {}{beside}{merged}", place(out), place(err))),
    }
}

fn limits(limits: &[Limit]) -> Option<String> {
    let bound = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    let limit = |limit: &Limit| {
        let name = format!("{:?}", limit.resource).to_lowercase();
        match (bound(limit.soft), bound(limit.hard)) {
            (soft, hard) if soft == hard => format!("{name} {soft}"),
            (soft, hard) => format!("{name} {soft}:{hard}"),
        }
    };
    let all: Vec<String> = limits.iter().map(limit).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Who starts when, where it is not all at once.
fn order(apps: &[AppSpec], text: &mut String) {
    let index = |name: &str| apps.iter().position(|app| *app.name == *name);
    let waits: Vec<Vec<usize>> =
        apps.iter().map(|app| app.after.iter().chain(&app.requires).filter_map(|name| index(name)).collect()).collect();
    let depths = graph::depths(&waits).unwrap_or_default();
    let last = depths.iter().copied().max().unwrap_or(0);
    if last == 0 {
        return;
    }
    let step = |depth: u32| {
        let names = apps.iter().zip(&depths).filter(|(_, known)| **known == depth).map(|(app, _)| &*app.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let steps: Vec<String> = (0..=last).map(step).collect();
    let _ = writeln!(text, "order: {}", steps.join("; then "));
}

fn ending(spec: &Spec, text: &mut String) {
    let deciding: Vec<String> = spec
        .apps
        .iter()
        .filter_map(|app| match (app.main, app.exit_on_error) {
            (true, _) => Some(format!("when {} does", app.name)),
            (false, true) => Some(format!("when {} is errored", app.name)),
            (false, false) => None,
        })
        .collect();
    let Settings { exit, stop_budget, .. } = &spec.settings;
    let otherwise = match exit {
        ExitPolicy::WhenDone => "when nothing runs that will run again",
        ExitPolicy::Never => "when it is told to",
    };
    let when = deciding.into_iter().chain([otherwise.to_owned()]).collect::<Vec<_>>().join(", or ");
    let _ = writeln!(text, "pm3 ends {when}; stopping takes {} at most", show_millis(*stop_budget));
}

/// What is allowed, and may not be what was meant.
fn surprises(spec: &Spec, text: &mut String) {
    for app in &spec.apps {
        let budget = spec.settings.stop_budget;
        if app.stop.timeout > budget {
            let (timeout, budget) = (show_millis(app.stop.timeout), show_millis(budget));
            let _ = writeln!(
                text,
                "note: {}: kill_timeout {timeout} ends early, with the stop_budget of {budget}, when pm3 itself ends",
                app.name
            );
        }
    }
}
