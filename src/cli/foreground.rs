//! `pm3 start --no-daemon`: this process becomes the supervisor, with the same pid. It executes itself anew as `pm3 init`,
//! because what reading files and options has left in its memory should not stay for as long as init lives. A file is
//! read by init itself, so that SIGHUP reads it again; apps made of options travel in a sealed file in memory. Signals are
//! blocked by then (`main`), so none is lost on the way.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;

use super::{Exit, verbs::Performed};
use super::{InitArgs, Report};
use crate::config::{self, Facts};
use crate::control::client::Client;
use crate::supervisor::spec::{AppSpec, Settings, Spec};
use crate::sys::{self, again, fds};

/// Whether there is nobody but this process to be the supervisor: it is PID 1, so that all ends when it ends.
pub(super) fn is_needed() -> bool {
    sys::place::is_pid_1()
}

/// Whether a supervisor in the background would be lost on the caller: a dyno ends with its process.
pub(super) fn is_wiser() -> bool {
    std::env::var_os("DYNO").is_some_and(|name| !name.is_empty())
}

/// One supervisor is there already; a second would have no socket, and no verb would reach it.
pub(super) fn is_taken(other: &Client) -> Report {
    let pid = other.pid;
    let why = "without --no-daemon the apps are brought to that one; another $PM3_HOME makes room for a second";
    Report::failed(Exit::NoSupervisor, format_args!("pm3 runs already, pid {pid}; {why}"))
}

/// Becomes the supervisor of these apps.
pub(super) fn of_apps(apps: Vec<AppSpec>, socket: Option<std::path::PathBuf>, facts: &Facts) -> Performed {
    let settings = Settings { cwd: facts.start_dir.to_string_lossy().into(), ..Settings::default() };
    of_spec(&Spec { apps, settings }, socket)
}

/// Becomes the supervisor with this plan.
pub(super) fn of_spec(spec: &Spec, socket: Option<std::path::PathBuf>) -> Performed {
    let packed = config::pack(spec);
    let handed_on = again::sealed(&packed).and_then(|fd| {
        fds::set_cloexec(fd.as_fd(), false)?;
        Ok(fd)
    });
    match handed_on {
        Ok(fd) => become_init(InitArgs { packed: Some(fd.into_raw_fd()), socket, ..InitArgs::default() }),
        Err(error) => {
            let why = crate::control::client::words(&error);
            Performed::Said(Report::failed(Exit::Failed, format_args!("cannot hand the apps on to init: {why}")))
        }
    }
}

/// Becomes init, with a new heap where that can be.
pub(super) fn become_init(args: InitArgs) -> Performed {
    if let Ok(words) = words(&args) {
        // Without /proc there is no way to the program's own file: then the old heap has to do.
        let Err(_) = again::become_anew(&words, &sys::place::environment());
    }
    Performed::Init(args)
}

/// As a person would type it.
fn words(args: &InitArgs) -> Result<Vec<CString>, std::ffi::NulError> {
    let InitArgs { file, config: _, env, only, background: _, ready_fd: _, packed, socket } = args;
    let packed = packed.map(|fd| OsString::from(fd.to_string()));
    let options: [(&str, Option<&OsStr>); 5] = [
        ("--config", file.as_deref().map(AsRef::as_ref)),
        ("--env", env.as_deref().map(AsRef::as_ref)),
        ("--only", only.as_deref().map(AsRef::as_ref)),
        ("--packed", packed.as_deref()),
        ("--socket", socket.as_deref().map(AsRef::as_ref)),
    ];
    let given = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let words = given.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    [b"pm3".to_vec(), b"init".to_vec()].into_iter().chain(words).map(CString::new).collect()
}
