//! Reading the configuration file: in a child, because a tree of text is large and init is small. The child checks the
//! file, prints its mistakes, and sends the packed plan; init bounds the wait and the size. A file that is a script is
//! evaluated by node, which is a child of that child and dies with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, warn};

use crate::config::{self, Facts, Form, Loaded, Wanted};
use crate::supervisor::event::Mono;
use crate::supervisor::spec::Spec;
use crate::sys::capture::{self, Bounds};
use crate::sys::fork::{self, Worker};
use crate::sys::{cgroup, clock, errno};

/// A file on a dead network disk must not keep init from its work for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// So much more may a file take that node has to evaluate; it is told before that what took so long.
const PATIENCE_WITH_NODE: Duration = PATIENCE.saturating_add(config::NODE_PATIENCE);

/// The exit code for a file with mistakes (sysexits.h: EX_CONFIG).
pub const BAD_CONFIG: u8 = 78;

/// What the child sends in place of a plan when it has told the file's mistakes. A child that was killed sends nothing.
const MISTAKES: &[u8] = b"mistakes";

/// Which file is read, and from where: the same again at each SIGHUP.
#[derive(Clone, Debug)]
pub struct Source {
    /// None: the first that is found.
    pub file: Option<PathBuf>,
    /// The profile whose `env_<profile>` tables apply.
    pub profile: Option<String>,
    /// Names of apps, where not all of the file's are wanted.
    pub only: Option<String>,
    /// Where pm3 was started.
    pub start_dir: PathBuf,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Reading {
    pub worker: Worker,
    received: Vec<u8>,
    patience: Duration,
    pub deadline: Mono,
}

/// What has come of a reading.
pub enum Progress {
    Underway,
    Done(Box<Spec>),
    /// None: the file has mistakes, and they have been told. Else the machine kept us from reading it.
    Failed(Option<String>),
}

/// Starts to read the file.
///
/// # Errors
/// A line that says why the child could not be started.
pub fn read(source: &Source) -> Result<Reading, String> {
    // Which file is found where none is named, only the child will know.
    let is_plain = source.file.as_deref().is_some_and(|file| Form::of(file) != Form::Script);
    let patience = if is_plain { PATIENCE } else { PATIENCE_WITH_NODE };
    let source = source.clone();
    let worker = fork::compute(move || {
        // A failed chdir shows as a file that is not found.
        let _ = std::env::set_current_dir(&source.start_dir);
        let facts = facts(&source.start_dir);
        let loaded = config::find(source.file.as_deref(), &facts)
            .map_err(|why| why.lines().map(str::to_owned).collect::<Vec<_>>())
            .and_then(|file| load(&file, &source, &facts));
        match loaded {
            Ok(spec) => config::pack(&spec),
            Err(mistakes) => {
                mistakes.iter().for_each(|mistake| error!("{mistake}"));
                MISTAKES.to_vec()
            }
        }
    });
    let worker =
        worker.map_err(|errno| format!("cannot start a child to read the file: {}", errno::why(errno as i32)))?;
    let received = Vec::with_capacity(config::PACKED_MAX);
    Ok(Reading { worker, received, patience, deadline: clock::now().after(patience) })
}

fn load(file: &Path, source: &Source, facts: &Facts) -> Result<Spec, Vec<String>> {
    let wanted = Wanted { profile: source.profile.as_deref(), only: source.only.as_deref(), travels: false };
    let bounds = Bounds { patience: config::NODE_PATIENCE, most: config::OUTPUT_MAX };
    let loaded = config::load(file, &wanted, facts, &|words, complete| capture::run("node", words, bounds, complete));
    let Loaded { spec, warnings } =
        loaded.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(spec)
}

/// What a file's meaning depends on, on this machine and in this container.
pub fn facts(start_dir: &Path) -> Facts {
    Facts::new(cgroup::cpus(), cgroup::memory_limit(), std::env::vars_os(), start_dir.to_path_buf())
}

impl Reading {
    /// Takes what has come from the child.
    pub fn advance(&mut self, now: Mono) -> Progress {
        match fork::receive(&self.worker, &mut self.received, config::PACKED_MAX) {
            Ok(true) if self.received == MISTAKES => Progress::Failed(None),
            Ok(true) if self.received.is_empty() => Progress::Failed(Some(
                "the child that reads the file died, killed by somebody or for want of memory".into(),
            )),
            Ok(true) => match config::unpack(&self.received) {
                Ok(spec) => Progress::Done(Box::new(spec)),
                Err(why) => Progress::Failed(Some(format!("the plan that the child sent is damaged: {why}"))),
            },
            Ok(false) if self.deadline <= now => {
                fork::give_up(&self.worker);
                Progress::Failed(Some(format!("reading the file took longer than {} s", self.patience.as_secs())))
            }
            Ok(false) => Progress::Underway,
            Err(errno) => {
                fork::give_up(&self.worker);
                Progress::Failed(Some(format!("reading the plan failed: {}", errno::why(errno as i32))))
            }
        }
    }
}
