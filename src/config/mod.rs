//! Text to [`Spec`]: finds, reads and checks the TOML file, and packs the result for init.
//!
//! It runs in a short-lived child of init, or in `pm3 check`; only [`unpack`] runs in init itself. What depends on
//! the machine (processors, memory, environment) comes in as [`Facts`]; beyond that it reads the file, its
//! `env_file`s, and nothing else. It never starts, changes or prints anything. All mistakes are found in one go, and
//! each names its place.

mod app;
mod file;
mod kinds;
mod mistakes;
mod pack;
mod plan;
mod schema;
mod several;
mod together;
mod units;
mod value;
mod words;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use file::parse;
pub use pack::{pack, unpack};
pub use plan::plan_text;
pub use schema::keys;
pub use units::millis;

pub use crate::supervisor::spec::PACKED_MAX;
use crate::supervisor::spec::Spec;

/// What the meaning of a file depends on, apart from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Processors that apps may use: affinity and cgroup quota, never the host's count. At least 1.
    pub cpus: u32,
    /// The memory limit of the container in bytes, where there is one.
    pub memory_limit: Option<u64>,
    /// The environment that pm3 was started with; what is not UTF-8 is left out.
    pub env: Vec<(String, String)>,
    /// The directory that pm3 was started in; relative paths start there.
    pub start_dir: PathBuf,
}

impl Facts {
    /// What of `env` is not UTF-8 is left out. Where the system knows no memory limit, `$MEMORY_AVAILABLE` may.
    pub fn new(
        cpus: u32,
        memory_limit: Option<u64>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        start_dir: PathBuf,
    ) -> Facts {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let mut facts = Facts { cpus, memory_limit, env: env.into_iter().filter_map(text).collect(), start_dir };
        facts.memory_limit = memory_limit.or_else(|| facts.memory_available());
        facts
    }

    /// Heroku's buildpacks say in `$MEMORY_AVAILABLE` how many megabytes a dyno has.
    fn memory_available(&self) -> Option<u64> {
        self.var("MEMORY_AVAILABLE")?.parse::<u64>().ok()?.checked_mul(1 << 20).filter(|bytes| *bytes > 0)
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Something wrong, and where. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    pub line: usize,
    pub col: usize,
    /// `web: kill_timeout = "soon": expected …`
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.col, self.text)
    }
}

/// Where a file is looked for when none is named, in this order; the first is relative to the start directory.
const PLACES: [&str; 3] = ["pm3.toml", "/etc/pm3/pm3.toml", "/etc/pm3.toml"];

/// The file to read: the one named by argument, else by `$PM3_CONFIG`, else the first that exists of `./pm3.toml`,
/// `/etc/pm3/pm3.toml` and `/etc/pm3.toml`. A named file is returned even if it does not exist: reading it tells why.
pub fn find(explicit: Option<&Path>, facts: &Facts) -> Result<PathBuf, String> {
    if let Some(path) = explicit {
        return Ok(path.to_path_buf());
    }
    if let Some(path) = facts.var("PM3_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    // The relative name is kept, so that messages show it as a person would write it.
    PLACES.iter().find(|place| facts.start_dir.join(place).exists()).map(PathBuf::from).ok_or_else(|| {
        let [here, etc, fallback] = PLACES;
        let here = facts.start_dir.join(here);
        format!(
            "no configuration file: looked for {}, {etc} and {fallback}; write one, or name it: \
             `pm3 init FILE`, --config FILE or $PM3_CONFIG",
            here.display()
        )
    })
}

/// The plan that a file is, or all that is wrong with it. `profile` chooses the `env_<profile>` tables. A relative
/// path starts at `facts.start_dir`, and messages show it as it is given.
pub fn load(path: &Path, profile: Option<&str>, facts: &Facts) -> Result<Spec, Vec<Mistake>> {
    let name = path.display().to_string();
    let text = mistakes::text(&facts.start_dir.join(path)).map_err(|problem| vec![problem.at(&name)])?;
    parse(&name, &text, profile, facts)
}

/// What `pm3 check` prints: the plan for people, or all that is wrong.
pub fn check(path: &Path, profile: Option<&str>, facts: &Facts) -> Result<String, Vec<Mistake>> {
    load(path, profile, facts).map(|spec| plan_text(&spec))
}
