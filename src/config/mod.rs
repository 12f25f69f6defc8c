//! Text to [`Spec`], whatever the text is: finds, reads and checks a file of apps, or the options of a command line; packs
//! the result for init, and writes it back as a file.
//!
//! `forms` turns TOML, JSON, YAML, and what a script exports, into one tree with places; `reader` reads it by the rows of
//! `schema`, each of a kind of `kinds` or `several`; `app` and `together` know what keys mean for each other.
//!
//! It runs in clients and in short-lived children of init; only [`unpack`] runs in init itself. What depends on the
//! machine (processors, memory, environment) comes in as [`Facts`], and whoever wants a script read brings the node that
//! runs it. Beyond that it reads the file, its `env_file`s, and, if asked, whether what apps name is there. It never
//! starts, changes or prints anything. All mistakes are found in one go, and each names its place.

mod app;
mod bounds;
pub mod date;
mod file;
mod forms;
mod health;
mod kinds;
mod mistakes;
mod options;
mod pack;
mod plan;
mod reader;
mod rotation;
mod schema;
mod several;
mod together;
mod tree;
mod units;
mod value;
mod words;
mod world;
mod write;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use file::{parse, read};
pub use forms::{Complete, Form, NODE_PATIENCE, OUTPUT_MAX, RunNode, is_file_of_apps};
pub use options::{Given, Typed, of_options, overlay};
pub use pack::{pack, unpack};
pub use plan::plan_text;
pub use schema::keys;
pub use together::pick;
pub use units::{amount, millis};
pub use world::{Account, absent, is_program};
pub use write::write;

pub use crate::supervisor::spec::PACKED_MAX;
use crate::supervisor::spec::{AppSpec, Spec};

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

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Empty: not in a file.
    pub file: String,
    pub place: Place,
    /// `web: kill_timeout = "soon": expected …`
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    Nowhere,
    /// Counting from 1, columns in characters.
    Line { line: usize, col: usize },
    /// The way to a value, in what has no lines: `apps[0].env`.
    Path(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { file, place, text } = self;
        match place {
            Place::Nowhere if file.is_empty() => write!(f, "{text}"),
            Place::Nowhere => write!(f, "{file}: {text}"),
            Place::Line { line, col } => write!(f, "{file}:{line}:{col}: {text}"),
            Place::Path(path) => write!(f, "{file}: {path}: {text}"),
        }
    }
}

/// What a file is called that is looked for where pm3 was started, in this order: pm3's own, then what PM2's users have.
const NAMES: [&str; 10] = [
    "pm3.toml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.config.json",
    "ecosystem.config.yml",
    "ecosystem.config.yaml",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
];

/// Where it is looked for after that.
const PLACES: [&str; 2] = ["/etc/pm3/pm3.toml", "/etc/pm3.toml"];

/// The file to read: the one named by argument, else by `$PM3_CONFIG`, else the first that exists of `./pm3.toml`,
/// `./ecosystem.config.js` and its like, `/etc/pm3/pm3.toml` and `/etc/pm3.toml`. A named file is returned even if it
/// does not exist: reading it tells why.
pub fn find(explicit: Option<&Path>, facts: &Facts) -> Result<PathBuf, String> {
    if let Some(path) = explicit {
        return Ok(path.to_path_buf());
    }
    if let Some(path) = facts.var("PM3_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    find_here(facts).or_else(|| PLACES.map(PathBuf::from).into_iter().find(|place| place.exists())).ok_or_else(|| {
        let [etc, fallback] = PLACES;
        format!(
            "no configuration file: looked for pm3.toml and ecosystem.config.js (.json, .yml, …) in {}, for {etc} and \
             for {fallback}; `pm3 ecosystem` writes one, `pm3 init FILE`, --config FILE or $PM3_CONFIG name one",
            facts.start_dir.display()
        )
    })
}

/// The file that is meant where none is named, in the directory itself: for `pm3 start` without a target.
pub fn find_here(facts: &Facts) -> Option<PathBuf> {
    // The relative name is kept, so that messages show it as a person would write it.
    NAMES.iter().find(|name| facts.start_dir.join(name).exists()).map(PathBuf::from)
}

/// What of a file is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Whose `env_<profile>` tables apply; that no app has one is a mistake.
    pub profile: Option<&'a str>,
    /// Names of apps, separated by commas or blanks, each of which must be in the file (whoever can do without uses [`pick`]); None: all.
    pub only: Option<&'a str>,
    /// The specs go to a supervisor that stands elsewhere, so every directory in them is made absolute.
    pub travels: bool,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub spec: Spec,
    /// Lines about what is no mistake: keys that only PM2 has a use for, a number of instances that is none here.
    pub warnings: Vec<String>,
}

/// What a file holds, or all that is wrong with it. A relative path starts at `facts.start_dir`, and messages show it as
/// it is given. `node` evaluates a file that is a script, and is not called for any other.
pub fn load(path: &Path, wanted: &Wanted<'_>, facts: &Facts, node: RunNode<'_>) -> Result<Loaded, Vec<Mistake>> {
    let name = path.display().to_string();
    let full = facts.start_dir.join(path);
    let form = Form::of(path);
    // Read in any case: a file that cannot be is told better here than by node.
    let mut text = mistakes::text(&full).map_err(|problem| vec![problem.at(&name)])?;
    if form == Form::Script {
        text = forms::export(&name, &full, node).map_err(|mistake| vec![mistake.cleaned()])?;
    }
    read(&name, form, &text, wanted, facts)
}

/// Makes the directories of apps absolute, that were read in `start_dir`, for a supervisor that stands elsewhere.
pub fn anchor(apps: &mut [AppSpec], start_dir: &Path) {
    for app in apps {
        let cwd = app.launch.cwd.as_deref().map_or_else(|| start_dir.to_path_buf(), |cwd| start_dir.join(cwd));
        app.launch.cwd = Some(cwd.to_string_lossy().into());
    }
}

/// What is to be said of `instances`, as it is typed, where it is right and perhaps not meant: more processors less than
/// there are.
pub fn note_on_instances(typed: &str, facts: &Facts) -> Option<String> {
    kinds::Instances::note(typed, facts)
}

/// A file for people to begin with, `ecosystem.config.js`: what `pm3 ecosystem` writes.
pub fn sample() -> &'static str {
    include_str!("sample.config.js")
}
