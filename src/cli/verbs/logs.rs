//! `pm3 logs`: what apps write, from the logger's memory and as it comes, in one of several forms. The one verb that
//! prints before it ends. It follows apps through restarts, and finds the logger again when that was replaced.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, NaiveDateTime, SecondsFormat};

use crate::cli::ask::{Context, ERROR, TAG, WARN, exit_of};
use crate::cli::view::Style;
use crate::cli::{Exit, Report, targets};
use crate::config::{date, millis};
use crate::control::client::{Client, Error, Logs, Told};
use crate::control::logs::{Event, Line, Query, Stream};
use crate::supervisor::event::Outcome;
use crate::sys;

/// Show what apps write, and follow it
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 logs\n  pm3 logs web --lines 100\n  pm3 logs web --err --nostream --since 10m\n  \
                  pm3 logs --json | jq .message"
)]
pub(in crate::cli) struct Args {
    /// Names, namespaces or ids of apps, or /REGEX/; default: all
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// Begin with so many lines of each app
    #[arg(long, value_name = "N", default_value_t = 15)]
    lines: u32,

    /// Show what is there and end
    #[arg(long)]
    nostream: bool,

    /// Lines as they were written, without names
    #[arg(long, conflicts_with_all = ["json", "format"])]
    raw: bool,

    /// A JSON object a line
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// As `timestamp=… app=… id=… type=… message=…`
    #[arg(long)]
    format: bool,

    /// Only stderr
    #[arg(long, conflicts_with = "out")]
    err: bool,

    /// Only stdout
    #[arg(long)]
    out: bool,

    /// The date before each line, in PM2's tokens; without a format: YYYY-MM-DDTHH:mm:ss
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = date::USUAL)]
    timestamp: Option<String>,

    /// Make this text stand out
    #[arg(long, value_name = "TEXT")]
    highlight: Option<String>,

    /// Only lines with this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Only lines since then: 10m, 2h, or a date as "2026-01-31 12:00:00"
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<u64>,
}

/// How often a logger that is gone is looked for again, and after how long: it is replaced at once, if pm3 lives.
const TRIES: u32 = 20;
const WAIT: Duration = Duration::from_millis(50);

pub(super) fn run(args: &Args, context: &Context) -> Report {
    let mut args = args.clone();
    // `--timestamp web`: what is no format is a target.
    if let Some(format) = args.timestamp.take_if(|format| !is_format(format)) {
        args.targets.push(format);
        args.timestamp = Some(date::USUAL.to_owned());
    }
    let shown = context.connect().and_then(|mut client| {
        let rows = client.list()?;
        let mut failed = Vec::new();
        let targets = targets::for_supervisor(args.targets.iter().map(String::as_str), &rows, &mut failed);
        if let [why, ..] = &failed[..] {
            return Ok(Report::failed(Exit::Failed, why));
        }
        let mut screen = Screen::new(&args, context.style);
        if args.targets.is_empty() || args.targets.iter().any(|word| targets::is_known(word, &rows)) {
            screen.head();
        }
        for row in rows.iter().filter(|row| args.targets.is_empty() || args.targets.contains(&String::from(&*row.name)))
        {
            screen.widen(row.id, &row.name);
        }
        follow(&args, targets, &client, &mut screen, || {})
    });
    shown.unwrap_or_else(|error| Report::failed(exit_of(&error), error))
}

/// Follows what these apps write from now on, and shows their last lines first: the end of `pm3 start --attach`.
pub(super) fn attach(targets: Vec<String>, context: &Context) -> Report {
    run(&Args { targets, ..plain() }, context)
}

/// Shows what an instance writes from now on as it is written, until it is deleted. `began` is called when nothing can be
/// missed any more.
pub(super) fn follow_one(id: Box<str>, client: &Client, style: Style, began: impl FnOnce()) -> Result<Report, Error> {
    let args = Args { lines: 0, raw: true, ..plain() };
    follow(&args, vec![id], client, &mut Screen::new(&args, style), began)
}

/// `pm3 logs` without options.
fn plain() -> Args {
    Args {
        targets: Vec::new(),
        lines: 15,
        nostream: false,
        raw: false,
        json: false,
        format: false,
        err: false,
        out: false,
        timestamp: None,
        highlight: None,
        grep: None,
        since: None,
    }
}

/// A format has at least one token.
fn is_format(text: &str) -> bool {
    date::check(text).is_ok() && date::format(text, 0) != text
}

fn follow(
    args: &Args,
    targets: Vec<Box<str>>,
    client: &Client,
    screen: &mut Screen<'_>,
    began: impl FnOnce(),
) -> Result<Report, Error> {
    let mut query = Query {
        targets,
        // What is searched is all there is; the newest of what is found are shown.
        lines: args.grep.is_none().then_some(args.lines),
        follow: !args.nostream,
        stream: if args.err { Some(Stream::Err) } else { args.out.then_some(Stream::Out) },
        since_ms: args.since.unwrap_or(0),
    };
    let mut logs = client.logs(query.clone())?;
    began();
    loop {
        match logs.next(None) {
            Ok(told) => {
                for told in told {
                    match told {
                        Told::Event(event) => screen.show(event),
                        Told::End(outcome) => return Ok(screen.end(&outcome)),
                    }
                }
                if !screen.flush() {
                    return Ok(Report::done(""));
                }
            }
            Err(Error::Lost(..)) if query.follow => {
                // A new logger remembers only what has come since.
                query.lines = None;
                logs = again(client, &query)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn again(client: &Client, query: &Query) -> Result<Logs, Error> {
    let mut tries = 1;
    loop {
        match client.logs(query.clone()) {
            Err(Error::Lost(..) | Error::Refused(_)) if tries < TRIES => tries += 1,
            other => return other,
        }
        std::thread::sleep(WAIT);
    }
}

/// What is printed, and how.
struct Screen<'a> {
    args: &'a Args,
    style: Style,
    /// Characters of the longest `id|name`.
    width: usize,
    /// Lines of the past that were searched for; None: the past is over.
    found: Option<VecDeque<Line>>,
    out: Vec<u8>,
}

impl<'a> Screen<'a> {
    fn new(args: &'a Args, style: Style) -> Screen<'a> {
        let mut screen = Screen { args, style, width: 0, found: None, out: Vec::new() };
        if args.grep.is_some() {
            screen.found = Some(VecDeque::new());
        }
        screen
    }

    /// PM2's first line.
    fn head(&mut self) {
        let args = self.args;
        if args.lines > 0 && !(args.raw || args.json || args.format) {
            let (whom, es) = if args.targets.is_empty() { ("all".into(), "es") } else { (args.targets.join(", "), "") };
            let lines = args.lines;
            self.put(&format!(
                "[TAILING] Tailing last {lines} lines for [{whom}] process{es} (change the value with --lines option)"
            ));
        }
    }

    fn widen(&mut self, id: u32, name: &str) {
        self.width = self.width.max(label(id, name).chars().count());
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Line(line) => {
                if self.args.grep.as_deref().is_some_and(|part| !line.text.contains(part)) {
                    return;
                }
                match &mut self.found {
                    Some(found) => {
                        found.push_back(line);
                        if found.len() > usize::try_from(self.args.lines).unwrap_or(usize::MAX) {
                            found.pop_front();
                        }
                    }
                    None => self.line(&line),
                }
            }
            Event::Live => self.past_is_over(),
            Event::Missed { lines } => {
                self.aside(&format!(
                    "{TAG}[WARN] {lines} lines are missing here: they came faster than they were read"
                ));
            }
            Event::Lost { app, id, why } => self.aside(&format!("{WARN}[{app}]({id}) output is lost: {why}")),
            Event::Deleted { app, id } => self.aside(&format!("{TAG} [{app}]({id}) was deleted")),
        }
    }

    fn past_is_over(&mut self) {
        for line in self.found.take().unwrap_or_default() {
            self.line(&line);
        }
    }

    fn end(&mut self, outcome: &Outcome) -> Report {
        self.past_is_over();
        self.flush();
        let err: String = outcome.failed.iter().map(|why| format!("{ERROR}{why}\n")).collect();
        Report { out: String::new(), exit: if err.is_empty() { Exit::Done } else { Exit::Failed }, err }
    }

    fn line(&mut self, line: &Line) {
        self.widen(line.id, &line.app);
        let text = if self.args.json {
            json(line)
        } else if self.args.format {
            formatted(line)
        } else {
            let date = self.args.timestamp.as_deref().map(|format| date::format(format, line.time_ms) + ": ");
            let message = date.unwrap_or_default() + &self.highlighted(&line.text);
            if self.args.raw { message } else { self.prefix(line) + &message }
        };
        self.put(&text);
    }

    fn prefix(&self, line: &Line) -> String {
        let name = format!("{:<width$} | ", label(line.id, &line.app), width = self.width);
        let color = if line.stream == Some(Stream::Err) { "\x1b[31m" } else { "\x1b[32m" };
        if self.style.color { format!("{color}{name}\x1b[0m") } else { name }
    }

    fn highlighted(&self, text: &str) -> String {
        match self.args.highlight.as_deref().filter(|part| !part.is_empty()) {
            // Asked for by name, so also where it is no terminal: it may be piped into a pager.
            Some(part) => text.replace(part, &format!("\x1b[7m{part}\x1b[27m")),
            None => text.to_owned(),
        }
    }

    fn put(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.push(b'\n');
    }

    /// Says something that is no app's output, at its place between the lines.
    fn aside(&mut self, line: &str) {
        self.flush();
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// False: nobody reads any more.
    fn flush(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&out).and_then(|()| stdout.flush()) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != ErrorKind::BrokenPipe {
                    let _ = writeln!(io::stderr(), "{ERROR}stdout: {}", sys::why(sys::errno::of(&error)));
                }
                false
            }
        }
    }
}

fn label(id: u32, name: &str) -> String {
    format!("{id}|{name}")
}

/// PM2's word for a stream.
fn kind(line: &Line) -> &'static str {
    if line.stream == Some(Stream::Err) { "err" } else { "out" }
}

/// PM2's fields.
fn json(line: &Line) -> String {
    let moment = DateTime::from_timestamp_millis(i64::try_from(line.time_ms).unwrap_or_default()).unwrap_or_default();
    serde_json::json!({
        "message": line.text,
        "timestamp": moment.to_rfc3339_opts(SecondsFormat::Millis, true),
        "type": kind(line),
        "process_id": line.id,
        "app_name": line.app,
    })
    .to_string()
}

fn formatted(line: &Line) -> String {
    let time = date::format("YYYY-MM-DD-HH:mm:ssZ", line.time_ms);
    format!("timestamp={time} app={} id={} type={} message={}", line.app, line.id, kind(line), line.text)
}

/// A moment in milliseconds of Unix time: a while ago, or a date in local time.
fn since(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(ago) = millis(text) {
        return Ok(u64::try_from(now.saturating_sub(ago.span()).as_millis()).unwrap_or_default());
    }
    let local = |text: &str, format| {
        let date = NaiveDateTime::parse_from_str(text, format).ok()?;
        date.and_local_timezone(Local).earliest().map(|moment| moment.timestamp_millis())
    };
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp_millis());
    let dates = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"];
    // A bare date is that day's beginning.
    let whole = [text, &format!("{text} 00:00")];
    let moment = zoned.or_else(|| whole.iter().find_map(|text| dates.iter().find_map(|format| local(text, format))));
    let expected = "expected a time as 10m or 2h, or a date as \"2026-01-31 12:00:00\"";
    moment.and_then(|moment| u64::try_from(moment).ok()).ok_or_else(|| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line { time_ms: 1_767_323_045_678, app: "web".into(), id: 3, stream: Some(Stream::Err), text: "a \"b\"".into() }
    }

    #[test]
    fn lines_have_pm2s_forms() {
        let expected = "{\"app_name\":\"web\",\"message\":\"a \\\"b\\\"\",\"process_id\":3,\
                        \"timestamp\":\"2026-01-02T03:04:05.678Z\",\"type\":\"err\"}";
        assert_eq!(json(&line()), expected);
        let text = formatted(&line());
        assert!(
            text.starts_with("timestamp=2026-01-0") && text.ends_with(" app=web id=3 type=err message=a \"b\""),
            "{text}"
        );
    }

    #[test]
    fn a_format_is_told_from_a_target() {
        for text in ["HH:mm", date::USUAL, "[at] X", "DD.MM."] {
            assert!(is_format(text), "{text}");
        }
        for text in ["web", "0", "all", "worker-1", "", "-"] {
            assert!(!is_format(text), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_while_ago_or_a_date() {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        let ago = since("10m").map(|moment| now.unwrap_or_default() - moment);
        assert!(ago.is_ok_and(|ago| (600_000 - 1_000..=600_000).contains(&ago)));
        assert_eq!(since("2026-01-02T03:04:05Z"), Ok(1_767_323_045_000));
        assert!(since("2026-01-02 03:04:05").is_ok() && since("2026-01-02 03:04").is_ok());
        assert_eq!(since("2026-01-02"), since("2026-01-02 00:00:00"));
        for text in ["yesterday", "", "2026-13-01 00:00:00", "2026-13-01", "10 parsecs"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
