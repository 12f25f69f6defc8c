//! pm3's own lines on standard error: `[pm3] web: online, pid 12`. The same for init and for its roles. In a file, as the
//! supervisor in the background has, each line has its time in front, in UTC. Never waits for whoever reads them
//! ([`say`]).

use std::io::Write;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use log::LevelFilter;

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
    let is_file = stderr.is_file();
    builder.target(env_logger::Target::Pipe(Box::new(stderr)));
    builder.format(move |line, record| {
        if is_file {
            let now = DateTime::<Utc>::from(SystemTime::now());
            write!(line, "{} ", now.to_rfc3339_opts(SecondsFormat::Millis, true))?;
        }
        match record.level() {
            log::Level::Info => writeln!(line, "[pm3] {}", record.args()),
            level @ (log::Level::Error | log::Level::Warn | log::Level::Debug | log::Level::Trace) => {
                writeln!(line, "[pm3] {}: {}", level.as_str().to_lowercase(), record.args())
            }
        }
    });
    let _ = builder.try_init();
    if filter.is_none() {
        log::set_max_level(LevelFilter::Info);
    }
    filter.is_some()
}
