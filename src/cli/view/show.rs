//! `pm3 show`: all about an instance: PM2's table with PM2's words, then what PM2 does not tell: sockets, limits, how the
//! last runs ended and what comes next, and the last lines of output.

use super::grid;
use super::text::{self, span_in_words};
use super::{Paint, Style, why};
use crate::control::logs::Line;
use crate::control::{Described, Detail};
use crate::supervisor::event::{Millis, Size};
use crate::supervisor::spec::{AppSpec, Health, Input, Kind, Limit, LogMode, Probe, Rare, Ready, RestartPolicy};

/// What the supervisor does not know, and the client has found beside the script.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Found {
    /// Of the interpreter, if that is node.
    pub(in crate::cli) node: Option<String>,
    /// The last lines of output, oldest first; None where nobody collects them.
    pub(in crate::cli) output: Option<Vec<Line>>,
}

/// The page of one instance. `now` is in milliseconds of Unix time.
pub(in crate::cli) fn page(app: &Described, one: &Detail, found: &Found, now: u64, style: Style) -> String {
    let mut out = String::new();
    let name = text::printable(&one.row.name);
    style.heading(&mut out, &format!("Describing process with id {} - name {name}", one.row.id));
    let fields = fields(app, one, found);
    grid::pairs(&mut out, fields.iter().map(|(name, value, paint)| (*name, value.as_str(), *paint)), style);

    let variables = variables(&app.spec);
    if !variables.is_empty() {
        style.heading(&mut out, "Environment of its own");
        let pairs = variables.iter().map(|(name, value)| (*name, value.unwrap_or("(not set)"), Paint::Plain));
        grid::pairs(&mut out, pairs, style);
    }

    style.heading(&mut out, "Last runs");
    if one.runs.is_empty() {
        out += "  none has ended\n";
    }
    why::history(&mut out, one, now, style);
    out += &why::wrapped("  ", &why::next(one, &one.row.name), style);
    if let Some(lines) = &found.output {
        style.heading(&mut out, "Last lines of output");
        why::output(&mut out, "  ", lines, style);
    }
    if style.width.is_some() {
        for hint in [
            format!("Use `pm3 logs {name} [--lines 1000]` to display logs"),
            format!("Use `pm3 env {}` to display environment variables", one.row.id),
        ] {
            style.paint(&mut out, &text::cut(&format!(" {hint}"), style.width.unwrap_or(usize::MAX)), Paint::Faint);
            out.push('\n');
        }
    }
    out
}

type Field = (&'static str, String, Paint);

/// PM2's fields in PM2's order, then pm3's own. What does not apply is left out, or `N/A` where PM2 says so.
fn fields(app: &Described, one: &Detail, found: &Found) -> Vec<Field> {
    let (spec, row) = (&app.spec, &one.row);
    let launch = &spec.launch;
    let mut fields: Vec<Field> = Vec::with_capacity(40);
    let mut add = |name, value: String| fields.push((name, value, Paint::Plain));
    let known = |text: &str| if text.is_empty() { "N/A".to_owned() } else { text.to_owned() };

    add("name", row.name.to_string());
    add("namespace", row.namespace.to_string());
    add("version", known(&row.version));
    add("restarts", row.restarts.to_string());
    if !row.reason.is_empty() {
        add("last reason", row.reason.to_string());
    }
    if let Some(ms) = one.next_start_ms {
        add("next start", format!("in {}", span_in_words(ms)));
    }
    if let Some(limit) = spec.memory_limit {
        add("max memory restart", Size(limit).to_string());
    }
    if let Some(cron) = &spec.cron {
        add("cron restart", cron.to_string());
    }
    add("uptime", text::uptime(row));
    add("script path", row.script.to_string());
    add("script args", known(&launch.args.join(" ")));
    // Without a file, lines go where pm3's own go, or nowhere.
    let nowhere = launch.output.mode == LogMode::None;
    let path = |file: &Option<Box<str>>, stream: &str| match file {
        Some(path) => path.to_string(),
        None if nowhere => "N/A".to_owned(),
        None => format!("none: pm3's own {stream}"),
    };
    one.log_file.iter().for_each(|path| add("entire log path", path.to_string()));
    add("error log path", path(&one.err_file, "stderr"));
    add("out log path", path(&one.out_file, "stdout"));
    one.lost.iter().for_each(|why| add("output is lost", why.to_string()));
    let mut its_args = launch.interpreter.iter();
    let interpreter = its_args.next().unwrap_or("none");
    add("interpreter", interpreter.to_owned());
    add("interpreter args", known(&its_args.collect::<Vec<_>>().join(" ")));
    add("script id", row.id.to_string());
    add("exec cwd", one.cwd.to_string());
    add("exec mode", format!("{}_mode", row.mode));
    if let Some(node) = &found.node {
        add("node.js version", node.clone());
    }
    add("node env", known(variable(spec, "NODE_ENV").unwrap_or_default()));
    add("watch & reload", if row.watching { "✔" } else { "✘" }.to_owned());
    if let Some(watch) = &spec.watch {
        let paths = if watch.paths.is_empty() { one.cwd.to_string() } else { watch.paths.join(", ") };
        let but = if watch.ignore.is_empty() { String::new() } else { format!(", but {}", watch.ignore.join(", ")) };
        add("watched paths", paths + &but);
    }
    add("unstable restarts", one.short_runs.to_string());
    if let Some(ms) = one.quarantine_ms {
        add("quarantine", format!("ends in {}; until then other instances get its connections", span_in_words(ms)));
    }
    add("created at", text::moment(row.created_ms));

    add("pid", row.pid.to_string());
    add("cpu", text::percent(row.cpu.unwrap_or(0.0)));
    add("memory", text::memory(row.memory_bytes));
    add("user", row.user.to_string());
    if spec.is_several() {
        let spares = if spec.spares() > 0 { format!(" and {} to stand by", spec.spares()) } else { String::new() };
        add("instance", format!("{} (of {}{spares}, counted from 0)", row.index, spec.instances));
    }
    for (at, socket) in one.sockets.iter().enumerate() {
        add(if at == 0 { "sockets" } else { "" }, socket.to_string());
    }
    if !one.ports.is_empty() {
        add("ports", one.ports.to_string());
    }
    if one.resets > 0 {
        add(
            "resets",
            format!(
                "{} connection{} that waited for a process that did not come",
                one.resets,
                if one.resets == 1 { "" } else { "s" }
            ),
        );
    }
    if !row.says.is_empty() {
        add("says", row.says.to_string());
    }
    if !row.held.is_empty() {
        add("held", row.held.to_string());
    }
    if !row.health.is_empty() {
        add("health", why::health(one));
    }
    if let Some(code) = one.exit_code {
        add("exit code", code.to_string());
    }
    add("restarts when", when(&spec.restart, spec.kind));
    if let Some(span) = spec.ready_within() {
        add("ready when", format!("{}; that may take {}", ready(spec.ready()), span_in_words(span.0.into())));
    }
    if let Some(span) = spec.watchdog() {
        add("watchdog", format!("a heartbeat within {}", span_in_words(span.0.into())));
    }
    if let Some(health) = &spec.health {
        add("probe", probe(health));
    }
    add("stops with", stop(spec));
    if !spec.after.is_empty() {
        add("starts after", spec.after.join(", "));
    }
    if !spec.requires.is_empty() {
        add("requires", spec.requires.join(", "));
    }
    if let Some(limits) = launch.rare.as_deref().map(limits).filter(|limits| !limits.is_empty()) {
        add("limits", limits);
    }
    let status = ("status", row.status.to_string(), Paint::of_status(&row.status));
    fields.insert(0, status);
    fields
}

/// The variables that the app does not just inherit: those of the shell that started it, its own over them. None: not set
/// there. Sorted by name.
pub(in crate::cli) fn variables(spec: &AppSpec) -> Vec<(&str, Option<&str>)> {
    let shell = spec.launch.shell.variables().iter().map(|(name, value)| (&**name, value.as_deref()));
    let own = spec.launch.env.iter().map(|(name, value)| (name, Some(value)));
    let mut all = std::collections::BTreeMap::new();
    all.extend(shell);
    all.extend(own);
    all.into_iter().collect()
}

fn variable<'a>(spec: &'a AppSpec, name: &str) -> Option<&'a str> {
    variables(spec).into_iter().find(|(known, _)| *known == name).and_then(|(_, value)| value)
}

/// What makes it ready, of those that are waited for.
fn ready(ready: &Ready) -> String {
    match ready {
        Ready::Executing => "its program executes",
        Ready::Listening => "it listens",
        Ready::Message => "it says so",
        Ready::Notify => "it says READY=1",
        Ready::Descriptor(number) => return format!("it writes a newline to descriptor {number}"),
        Ready::Healthy => "a probe succeeds",
        Ready::Line(text) => return format!("it writes a line with {text:?}"),
    }
    .to_owned()
}

/// What is asked of it, and how often.
fn probe(health: &Health) -> String {
    let at = |at: &str| if at.is_empty() { " where it listens".to_owned() } else { format!(" {at}") };
    let what = match &health.probe {
        Probe::Http { at: place, path } => format!("http{}, {path}", at(place)),
        Probe::Tcp { at: place } => format!("tcp{}", at(place)),
        Probe::Exec(words) => words.join(" "),
    };
    let span = |span: Millis| span_in_words(span.0.into());
    let (interval, timeout) = (span(health.interval), span(health.timeout));
    let many = match health.retries {
        1 => "one failure is too many".to_owned(),
        retries => format!("{retries} failures in a row are too many"),
    };
    let mut text = format!("{what}; every {interval}, within {timeout}; {many}");
    if health.start_period > Millis::ZERO {
        let (period, pause) = (span(health.start_period), span(health.start_interval));
        text += &format!("; none counts in the first {period}, when it is asked every {pause}");
    }
    text
}

/// When an ended run is followed by another, in one line.
fn when(policy: &RestartPolicy, kind: Kind) -> String {
    use crate::supervisor::spec::Restart;
    let mut text = match (policy.when, kind) {
        (Restart::Never, _) => return "never".to_owned(),
        (_, Kind::Oneshot) | (Restart::OnFailure, _) => "it fails".to_owned(),
        (Restart::Always, Kind::Service) => "it ends".to_owned(),
    };
    if policy.delay > Millis::ZERO {
        text += &format!(", after {}", span_in_words(policy.delay.0.into()));
    }
    if policy.backoff > Millis::ZERO {
        text += &format!(", after {} and then longer each time", span_in_words(policy.backoff.0.into()));
    }
    if !policy.stop_exit_codes.is_empty() {
        let codes: Vec<String> = policy.stop_exit_codes.iter().map(u8::to_string).collect();
        text += &format!(", not with exit {}", codes.join(", "));
    }
    let (runs, uptime) = (policy.max_restarts, span_in_words(policy.min_uptime.0.into()));
    text + &format!("; gives up after {runs} runs shorter than {uptime}")
}

fn stop(spec: &AppSpec) -> String {
    let stop = &spec.stop;
    let whom = if stop.tree { "" } else { " to the main process alone" };
    format!("{}{whom}, SIGKILL after {}", stop.signal, span_in_words(stop.timeout.0.into()))
}

/// What is set of limits and the like: `nofile 1024:4096, nice 5`.
fn limits(rare: &Rare) -> String {
    let value = |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
    let limit = |Limit { resource, soft, hard }: &Limit| {
        let name = format!("{resource:?}").to_lowercase();
        if soft == hard {
            format!("{name} {}", value(*soft))
        } else {
            format!("{name} {}:{}", value(*soft), value(*hard))
        }
    };
    let mut all: Vec<String> = rare.limits.iter().map(limit).collect();
    all.extend(rare.nice.map(|nice| format!("nice {nice}")));
    all.extend(rare.oom_score_adj.map(|score| format!("oom_score_adj {score}")));
    all.extend(rare.umask.map(|mask| format!("umask {mask:03o}")));
    all.extend(rare.no_new_privs.filter(|set| *set).map(|_| "no_new_privs".to_owned()));
    all.extend((rare.stdin == Input::Pipe).then(|| "stdin a pipe".to_owned()));
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::why::tests::{NOW, crashed, line, steady};
    use super::*;

    fn check(app: &Described, style: Style, expected: Expect) {
        let found = Found {
            node: Some("22.1.0".into()),
            output: Some(vec![line("listening on 3000"), line("GET / \x1b[31m200\x1b[0m")]),
        };
        expected.assert_eq(&page(app, &app.instances[0], &found, NOW, style));
    }

    #[test]
    fn all_that_is_known_is_told() {
        check(
            &crashed(),
            Style::default(),
            expect![[r#"
                 Describing process with id 7 - name mailer 
                ┌────────────────────┬──────────────────────────────────────────────────────────────────────────────────────────────────────────────┐
                │ status             │ waiting restart                                                                                              │
                │ name               │ mailer                                                                                                       │
                │ namespace          │ jobs                                                                                                         │
                │ version            │ N/A                                                                                                          │
                │ restarts           │ 4                                                                                                            │
                │ last reason        │ exit 1                                                                                                       │
                │ next start         │ in 337 ms                                                                                                    │
                │ max memory restart │ 20M                                                                                                          │
                │ cron restart       │ 0 3 * * *                                                                                                    │
                │ uptime             │ 0                                                                                                            │
                │ script path        │                                                                                                              │
                │ script args        │ N/A                                                                                                          │
                │ error log path     │ none: pm3's own stderr                                                                                       │
                │ out log path       │ none: pm3's own stdout                                                                                       │
                │ interpreter        │ none                                                                                                         │
                │ interpreter args   │ N/A                                                                                                          │
                │ script id          │ 7                                                                                                            │
                │ exec cwd           │                                                                                                              │
                │ exec mode          │ fork_mode                                                                                                    │
                │ node.js version    │ 22.1.0                                                                                                       │
                │ node env           │ N/A                                                                                                          │
                │ watch & reload     │ ✘                                                                                                            │
                │ unstable restarts  │ 2                                                                                                            │
                │ created at         │ 2026-11-18T19:34:15.825Z                                                                                     │
                │ pid                │ 0                                                                                                            │
                │ cpu                │ 0%                                                                                                           │
                │ memory             │ 0b                                                                                                           │
                │ user               │ root                                                                                                         │
                │ exit code          │ 1                                                                                                            │
                │ restarts when      │ it ends, after 100 ms and then longer each time, not with exit 0, 3; gives up after 16 runs shorter than 1 s │
                │ stops with         │ SIGINT, SIGKILL after 1.6 s                                                                                  │
                │ limits             │ nofile 1024:4096, nice 5                                                                                     │
                └────────────────────┴──────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
                 Last runs 
                  2026-11-19 23:20:55Z  3 days ago  ran 27 h     operator, started again after 100 s
                  2026-11-23 10:32:35Z  8 min ago   ran 3 days   memory 23.1M over 20M, started again after 3 min
                  2026-11-23 10:36:45Z  4 min ago   ran 12 s     SIGSEGV, started again after 2 min
                  2026-11-23 10:39:15Z  100 s ago   did not run  start failed at chdir /srv/mailer: no such file or directory, started again after 98 s
                  2026-11-23 10:40:55Z  800 ms ago  ran 900 ms   exit 1
                  It starts again in 337 ms.
                 Last lines of output 
                  listening on 3000
                  GET / 200
            "#]],
        );
    }

    #[test]
    fn what_has_no_room_goes_on_below() {
        check(
            &steady(),
            Style { width: Some(48), color: false },
            expect![[r#"
                 Describing process with id 3 - name web 
                ┌───────────────────┬──────────────────────────┐
                │ status            │ online                   │
                │ name              │ web                      │
                │ namespace         │ default                  │
                │ version           │ 1.2.3                    │
                │ restarts          │ 0                        │
                │ uptime            │ 3m                       │
                │ script path       │ /srv/a-rather-long-path/ │
                │                   │ for/a/web/application/se │
                │                   │ rver.js                  │
                │ script args       │ --port 3000              │
                │ error log path    │ none: pm3's own stderr   │
                │ out log path      │ none: pm3's own stdout   │
                │ interpreter       │ node                     │
                │ interpreter args  │ --max-old-space-size=409 │
                │                   │ 6                        │
                │ script id         │ 3                        │
                │ exec cwd          │ /srv/a-rather-long-path/ │
                │                   │ for/a/web/application    │
                │ exec mode         │ cluster_mode             │
                │ node.js version   │ 22.1.0                   │
                │ node env          │ production               │
                │ watch & reload    │ ✔                        │
                │ watched paths     │ /srv/web/src, but *.tmp  │
                │ unstable restarts │ 0                        │
                │ created at        │ 2026-11-23T10:37:45.725Z │
                │ pid               │ 12345                    │
                │ cpu               │ 1.5%                     │
                │ memory            │ 51.5mb                   │
                │ user              │ www-data                 │
                │ instance          │ 1 (of 2, counted from 0) │
                │ sockets           │ tcp 0.0.0.0:3000         │
                │                   │ unix /run/web.sock       │
                │ restarts when     │ it ends; gives up after  │
                │                   │ 16 runs shorter than 1 s │
                │ stops with        │ SIGTERM, SIGKILL after 8 │
                │                   │ s                        │
                │ requires          │ migrate                  │
                └───────────────────┴──────────────────────────┘
                 Environment of its own 
                ┌─────────────┬────────────┐
                │ LANG        │ (not set)  │
                │ NODE_ENV    │ production │
                │ SHELL_TOKEN │ ***        │
                │ TOKEN       │ ***        │
                └─────────────┴────────────┘
                 Last runs 
                  none has ended
                 Last lines of output 
                  listening on 3000
                  GET / 200
                 Use `pm3 logs web [--lines 1000]` to display l…
                 Use `pm3 env 3` to display environment variabl…
            "#]],
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut wild = crashed();
        wild.spec.launch.args =
            ["\x1b[2J\n", "漢字漢字漢字", "--option=with-a-very-long-value-that-does-not-end"].map(Into::into).into();
        wild.instances[0].row.name = "\x1b]0;title\x07 名前".into();
        let found = Found { output: Some(vec![line(&"x\ty\r".repeat(100))]), ..Found::default() };
        for app in [&steady(), &wild] {
            for width in 0..200 {
                let text = page(app, &app.instances[0], &found, NOW, Style { width: Some(width), color: false });
                assert_eq!(text.lines().find(|line| text::width(line) > width.max(18)), None, "at {width}:\n{text}");
                assert!(!text.contains(|letter| letter != '\n' && text::is_unruly(letter)), "{text:?}");
            }
        }
    }
}
