//! `pm3 why`: why an instance's runs ended, in sentences, the newest last: when that was, how long the run had lasted, what
//! ended it, and what came of it.

use super::text::{self, printable, span_in_words};
use super::{Paint, Style};
use crate::control::logs::Line;
use crate::control::{Described, Detail, Past};

/// So many columns are needed before the exact moments are told beside how long ago they are.
const ROOMY: usize = 100;

/// An instance's name as pm3's own lines have it: the app's, with a number where there are several.
pub(in crate::cli) fn who(app: &Described, one: &Detail) -> String {
    let name = printable(&one.row.name);
    if app.spec.is_several() { format!("{name}-{}", one.row.index) } else { name.into_owned() }
}

/// An app's name, to be looked at.
pub(in crate::cli) fn name(app: &Described) -> String {
    printable(&app.spec.name).into_owned()
}

/// A word for a state, and the reason for it.
pub(in crate::cli) fn stated(status: &str, reason: &str) -> String {
    format!("{}: {}", printable(status), printable(reason))
}

/// The page of one instance. `lines` are its last ones, oldest first, where somebody collects them; `now` is in
/// milliseconds of Unix time, by this machine's clock.
pub(in crate::cli) fn page(app: &Described, one: &Detail, lines: Option<&[Line]>, now: u64, style: Style) -> String {
    let mut out = String::new();
    let (who, row) = (who(app, one), &one.row);
    let mut head = format!("{who} (id {}): {}", row.id, printable(&row.status));
    if row.uptime_ms > 0 {
        head += &format!(" for {}, pid {}", span_in_words(row.uptime_ms), row.pid);
    } else if row.pid > 0 {
        head += &format!(", pid {}", row.pid);
    }
    if &*row.health == "unhealthy" {
        head += &format!(", {}", health(one));
    }
    if one.runs.is_empty() {
        head += "; no run of it has ended yet";
    }
    let head = wrapped("", &head, style);
    match head.strip_prefix(&who) {
        Some(rest) => {
            style.paint(&mut out, &who, Paint::Bold);
            out += rest;
        }
        // There is not even room for its name.
        None => out += &head,
    }
    history(&mut out, one, now, style);
    out += &wrapped("", &next(one, &app.spec.name), style);
    if let Some(lines) = lines.filter(|lines| !lines.is_empty()) {
        out += &wrapped("", "Its last lines of output:", style);
        output(&mut out, "  ", lines, style);
    }
    out
}

/// What its probes say, and what was wrong the last time.
pub(in crate::cli) fn health(one: &Detail) -> String {
    let word = &one.row.health;
    if one.ailment.is_empty() { word.to_string() } else { format!("{word}: {}", printable(&one.ailment)) }
}

/// Lines of output, each cut to the terminal.
pub(super) fn output(out: &mut String, indent: &str, lines: &[Line], style: Style) {
    for line in lines {
        let line = format!("{indent}{}", text::output(&line.text));
        *out += &style.width.map_or_else(|| line.as_str().into(), |width| text::cut(&line, width));
        out.push('\n');
    }
    if lines.is_empty() {
        *out += &text::cut(&format!("{indent}none is remembered"), style.width.unwrap_or(usize::MAX));
        out.push('\n');
    }
}

/// A line for each run that has ended.
pub(in crate::cli) fn history(out: &mut String, one: &Detail, now: u64, style: Style) {
    let roomy = style.width.is_none_or(|width| width >= ROOMY);
    let lines: Vec<(String, String, String)> = one
        .runs
        .iter()
        .enumerate()
        .map(|(at, run)| {
            let mut when = format!("{} ago", span_in_words(now.saturating_sub(end(run))));
            if roomy {
                let moment = text::moment(end(run));
                // To the second: `2026-11-23 10:40:55Z`.
                let seconds = moment.get(..19).unwrap_or_default().replace('T', " ");
                when = format!("{seconds}Z  {when}");
            }
            let began = match one.runs.get(at + 1) {
                Some(next) => Some(next.began_ms),
                None => Some(one.started_ms).filter(|_| runs(one) && one.started_ms >= end(run)),
            };
            let then = began.map_or_else(String::new, |began| follow(run, began));
            (when, lasted(run), format!("{}{then}", printable(&run.reason)))
        })
        .collect();
    let widest = |of: fn(&(String, String, String)) -> &String| {
        lines.iter().map(of).map(|text| text::width(text)).max().unwrap_or(0)
    };
    let (when_width, lasted_width) = (widest(|line| &line.0), widest(|line| &line.1));
    for (when, lasted, what) in &lines {
        *out += &wrapped(&format!("  {when:<when_width$}  {lasted:<lasted_width$}  "), what, style);
    }
}

fn end(run: &Past) -> u64 {
    run.began_ms.saturating_add(run.lasted_ms)
}

fn lasted(run: &Past) -> String {
    // It never had a process, or one that did not get as far as its program.
    if run.pid == 0 || run.reason.starts_with("start failed") {
        "did not run".to_owned()
    } else {
        format!("ran {}", span_in_words(run.lasted_ms))
    }
}

/// What pm3 did after a run's end.
fn follow(run: &Past, began: u64) -> String {
    let wait = began.saturating_sub(end(run));
    if wait < 100 {
        ", started again at once".to_owned()
    } else {
        format!(", started again after {}", span_in_words(wait))
    }
}

/// There is a run that has not ended.
fn runs(one: &Detail) -> bool {
    matches!(&*one.row.status, "online" | "launching" | "standby" | "stopping")
}

/// What pm3 will do next; empty where nothing is ahead.
pub(in crate::cli) fn next(one: &Detail, name: &str) -> String {
    let name = printable(name);
    let soon = one.next_start_ms.map(|ms| format!("in {}", span_in_words(ms)));
    match (&*one.row.status, soon) {
        ("waiting restart", Some(soon)) => format!("It starts again {soon}."),
        ("waiting restart", None) => "It starts again soon.".to_owned(),
        ("waiting", _) if one.row.reason.is_empty() => "It starts as soon as it may.".to_owned(),
        ("waiting", _) => format!("It starts later: it {}.", printable(&one.row.reason)),
        ("standby", _) => "It takes over when another instance dies.".to_owned(),
        ("online" | "launching", Some(soon)) => format!("Its schedule restarts it {soon}."),
        ("errored", Some(soon)) => format!("It has failed too often; its schedule tries again {soon}."),
        ("errored", None) if one.short_runs > 1 => {
            format!("It is not started again, after {} short runs; `pm3 restart {name}` tries anew.", one.short_runs)
        }
        ("errored", None) => format!("It is not started again; `pm3 restart {name}` tries anew."),
        ("stopped" | "finished", Some(soon)) => format!("Its schedule starts it {soon}."),
        ("stopped", None) => format!("It is not started again until `pm3 start {name}`."),
        ("finished", None) => "It is done, and not started again.".to_owned(),
        _ => String::new(),
    }
}

/// `text` after `lead`, broken into lines that begin where the text began; nothing, if there is no text.
pub(in crate::cli) fn wrapped(lead: &str, words: &str, style: Style) -> String {
    if words.is_empty() {
        return String::new();
    }
    let indent = text::width(lead);
    let Some(width) = style.width else { return format!("{lead}{words}\n") };
    let mut out = String::new();
    // Where the lead leaves no room for words, they go below it.
    let (indent, first) = if lead.is_empty() || width >= indent + 20 { (indent, lead) } else { (4.min(width / 2), "") };
    if first.is_empty() && !lead.is_empty() {
        out += &text::cut(lead.trim_end(), width);
        out.push('\n');
    }
    let blank = " ".repeat(indent);
    for (at, line) in text::wrap(words, width.saturating_sub(indent).max(1)).into_iter().enumerate() {
        out += if at == 0 && !first.is_empty() { first } else { &blank };
        out += line;
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use expect_test::{Expect, expect};

    use super::*;
    use crate::control::Row;
    use crate::supervisor::spec::AppSpec;

    /// 2026-11-23T10:40:55.825Z
    pub(in crate::cli::view) const NOW: u64 = 1_795_430_455_825;

    fn run(pid: u32, ended_ago: u64, lasted_ms: u64, reason: &str) -> Past {
        Past { pid, began_ms: NOW - ended_ago - lasted_ms, lasted_ms, reason: reason.into() }
    }

    fn app(json: serde_json::Value, one: Detail) -> Described {
        let mut spec: AppSpec = serde_json::from_value(json).unwrap();
        spec.name = one.row.name.clone();
        Described { spec, instances: vec![one], ..Described::default() }
    }

    pub(in crate::cli::view) fn line(text: &str) -> Line {
        Line { text: text.into(), ..Line::default() }
    }

    /// It runs, and never did anything else.
    pub(in crate::cli::view) fn steady() -> Described {
        let row = Row {
            id: 3,
            name: "web".into(),
            namespace: "default".into(),
            version: "1.2.3".into(),
            script: "/srv/a-rather-long-path/for/a/web/application/server.js".into(),
            mode: "cluster".into(),
            index: 1,
            pid: 12_345,
            status: "online".into(),
            uptime_ms: 190_000,
            memory_bytes: 54_001_664,
            cpu: Some(1.5),
            user: "www-data".into(),
            watching: true,
            created_ms: NOW - 190_100,
            ..Row::default()
        };
        let spec = serde_json::json!({
            "instances": 2,
            "requires": ["migrate"],
            "watch": { "paths": ["/srv/web/src"], "ignore": ["*.tmp"] },
            "launch": {
                "interpreter": ["node", "--max-old-space-size=4096"],
                "script": "server.js",
                "args": ["--port", "3000"],
                "env": [["NODE_ENV", "production"], ["TOKEN", "***"]],
                "shell": [["SHELL_TOKEN", "***"], ["LANG", null]],
            },
        });
        let sockets = vec!["tcp 0.0.0.0:3000".into(), "unix /run/web.sock".into()];
        let cwd = "/srv/a-rather-long-path/for/a/web/application".into();
        app(spec, Detail { row, started_ms: NOW - 190_000, sockets, cwd, ..Detail::default() })
    }

    /// It crashes, and waits for its next start.
    pub(in crate::cli::view) fn crashed() -> Described {
        let row = Row {
            id: 7,
            name: "mailer".into(),
            namespace: "jobs".into(),
            mode: "fork".into(),
            status: "waiting restart".into(),
            restarts: 4,
            user: "root".into(),
            reason: "exit 1".into(),
            created_ms: NOW - 400_000_000,
            ..Row::default()
        };
        let spec = serde_json::json!({
            "memory_limit": 20 << 20,
            "cron": "0 3 * * *",
            "restart": { "backoff": 100, "stop_exit_codes": [0, 3] },
            "stop": { "signal": 2, "timeout": 1600 },
            "launch": {
                "script": "mailer.sh",
                "rare": { "limits": [{ "resource": "nofile", "soft": 1024, "hard": 4096 }], "nice": 5 },
            },
        });
        let runs = vec![
            run(11, 300_000_000, 99_000_000, "operator"),
            run(12, 500_000, 299_400_000, "memory 23.1M over 20M"),
            run(13, 250_000, 12_400, "SIGSEGV"),
            run(0, 100_000, 0, "start failed at chdir /srv/mailer: no such file or directory"),
            run(15, 800, 900, "exit 1"),
        ];
        let next_start_ms = Some(337);
        app(spec, Detail { row, runs, next_start_ms, short_runs: 2, exit_code: Some(1), ..Detail::default() })
    }

    fn check(app: &Described, width: Option<usize>, expected: Expect) {
        expected.assert_eq(&page(
            app,
            &app.instances[0],
            Some(&[line("going down")]),
            NOW,
            Style { width, color: false },
        ));
    }

    #[test]
    fn a_history_is_told_in_sentences() {
        check(
            &crashed(),
            None,
            expect![[r#"
                mailer (id 7): waiting restart
                  2026-11-19 23:20:55Z  3 days ago  ran 27 h     operator, started again after 100 s
                  2026-11-23 10:32:35Z  8 min ago   ran 3 days   memory 23.1M over 20M, started again after 3 min
                  2026-11-23 10:36:45Z  4 min ago   ran 12 s     SIGSEGV, started again after 2 min
                  2026-11-23 10:39:15Z  100 s ago   did not run  start failed at chdir /srv/mailer: no such file or directory, started again after 98 s
                  2026-11-23 10:40:55Z  800 ms ago  ran 900 ms   exit 1
                It starts again in 337 ms.
                Its last lines of output:
                  going down
            "#]],
        );
    }

    #[test]
    fn in_a_narrow_terminal_sentences_are_broken() {
        check(
            &crashed(),
            Some(60),
            expect![[r#"
                mailer (id 7): waiting restart
                  3 days ago  ran 27 h     operator, started again after 100
                                           s
                  8 min ago   ran 3 days   memory 23.1M over 20M, started
                                           again after 3 min
                  4 min ago   ran 12 s     SIGSEGV, started again after 2
                                           min
                  100 s ago   did not run  start failed at chdir
                                           /srv/mailer: no such file or
                                           directory, started again after 98
                                           s
                  800 ms ago  ran 900 ms   exit 1
                It starts again in 337 ms.
                Its last lines of output:
                  going down
            "#]],
        );
        check(
            &crashed(),
            Some(30),
            expect![[r#"
                mailer (id 7): waiting restart
                  3 days ago  ran 27 h
                    operator, started again
                    after 100 s
                  8 min ago   ran 3 days
                    memory 23.1M over 20M,
                    started again after 3 min
                  4 min ago   ran 12 s
                    SIGSEGV, started again
                    after 2 min
                  100 s ago   did not run
                    start failed at chdir
                    /srv/mailer: no such file
                    or directory, started
                    again after 98 s
                  800 ms ago  ran 900 ms
                    exit 1
                It starts again in 337 ms.
                Its last lines of output:
                  going down
            "#]],
        );
    }

    #[test]
    fn without_a_history_there_is_little_to_tell() {
        check(
            &steady(),
            Some(80),
            expect![[r#"
                web-1 (id 3): online for 3 min, pid 12345; no run of it has ended yet
                Its last lines of output:
                  going down
            "#]],
        );
    }

    #[test]
    fn what_follows_an_end_is_told() {
        let mut app = crashed();
        let one = &mut app.instances[0];
        one.runs = vec![run(15, 30_000, 900, "exit 1")];
        (one.row.status, one.row.uptime_ms, one.row.pid, one.next_start_ms) = ("online".into(), 29_850, 16, None);
        one.started_ms = NOW - 29_850;
        check(
            &app,
            Some(80),
            expect![[r#"
                mailer (id 7): online for 29 s, pid 16
                  30 s ago  ran 900 ms  exit 1, started again after 150 ms
                Its last lines of output:
                  going down
            "#]],
        );
        app.instances[0].started_ms = NOW - 29_950;
        check(
            &app,
            Some(80),
            expect![[r#"
                mailer (id 7): online for 29 s, pid 16
                  30 s ago  ran 900 ms  exit 1, started again at once
                Its last lines of output:
                  going down
            "#]],
        );
    }

    #[test]
    fn what_comes_next_depends_on_the_state() {
        let told = |status: &str, reason: &str, short_runs, next_start_ms| {
            let row = Row { status: status.into(), reason: reason.into(), ..Row::default() };
            next(&Detail { row, short_runs, next_start_ms, ..Detail::default() }, "web")
        };
        for (status, reason, short, soon, text) in [
            ("online", "", 0, None, ""),
            ("standby", "", 0, Some(90_000), "It takes over when another instance dies."),
            ("online", "", 0, Some(90_000), "Its schedule restarts it in 90 s."),
            ("waiting restart", "exit 1", 1, Some(150), "It starts again in 150 ms."),
            ("waiting", "waits for db", 0, None, "It starts later: it waits for db."),
            ("stopped", "operator", 0, None, "It is not started again until `pm3 start web`."),
            ("stopped", "exit 0", 0, Some(7_200_000), "Its schedule starts it in 2 h."),
            (
                "errored",
                "exit 1",
                16,
                None,
                "It is not started again, after 16 short runs; `pm3 restart web` tries anew.",
            ),
            ("errored", "requires db", 0, None, "It is not started again; `pm3 restart web` tries anew."),
            ("finished", "exit 0", 0, None, "It is done, and not started again."),
            ("a word of a later release", "", 0, None, ""),
        ] {
            assert_eq!(told(status, reason, short, soon), text, "{status} {reason}");
        }
    }
}
