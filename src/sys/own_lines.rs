//! pm3's own lines on standard error: `[pm3] web: online, pid 12`. The same for init and for its roles. In a file, as the
//! supervisor in the background has, each line has its time in front, in UTC; and where `$PM3_LOG_MODE` makes objects of all
//! that apps write, these are such, too. Never waits for whoever reads them ([`say`]).

use std::fmt::Arguments;
use std::io::{self, Write};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use log::{Level, LevelFilter};

use super::say;

/// Makes the `log` macros write lines. True: `PM3_LOG` or `RUST_LOG` has chosen what is told, and no setting changes that;
/// else it is told from `info` on.
pub fn start() -> bool {
    let filter = ["PM3_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let mut builder = env_logger::Builder::new();
    match &filter {
        Some(filter) => builder.parse_filters(filter),
        // A level may be set later, and may be any.
        None => builder.filter_level(LevelFilter::Trace),
    };
    let stderr = say::stderr();
    let form = stderr.form();
    builder.target(env_logger::Target::Pipe(Box::new(stderr)));
    builder.format(move |line, record| form.write(line, record.level(), record.args()));
    let _ = builder.try_init();
    if filter.is_none() {
        log::set_max_level(LevelFilter::Info);
    }
    filter.is_some()
}

/// What such a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// With its time.
    Dated,
    /// An object a line, with the names of the logger's.
    Json,
}

impl Form {
    /// Of lines to a file, or to anything else.
    pub(super) fn of(is_file: bool) -> Form {
        if std::env::var_os("PM3_LOG_MODE").is_some_and(|mode| mode == "json") {
            return Form::Json;
        }
        if is_file { Form::Dated } else { Form::Plain }
    }

    /// Writes a line.
    pub(super) fn write(self, to: &mut dyn Write, level: Level, text: &Arguments<'_>) -> io::Result<()> {
        let time = || DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Millis, true);
        let word = level.as_str().to_lowercase();
        match self {
            Form::Json => {
                let (time, text) = (time(), serde_json::to_string(&text.to_string())?);
                return writeln!(to, r#"{{"time":"{time}","app":"pm3","level":"{word}","message":{text}}}"#);
            }
            Form::Dated => write!(to, "{} ", time())?,
            Form::Plain => {}
        }
        match level {
            Level::Info => writeln!(to, "[pm3] {text}"),
            Level::Error | Level::Warn | Level::Debug | Level::Trace => writeln!(to, "[pm3] {word}: {text}"),
        }
    }
}
