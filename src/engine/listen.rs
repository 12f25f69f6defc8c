//! Socket activation: the sockets that an app's entry names (`listen`) are opened when it is meant to run, and each of its
//! runs is handed them as it starts (sd_listen_fds(3)). Those of an address are slots as any others (`slots`); a Unix
//! socket is one for all of an app's runs, as the kernel knows no group of them. A program that knows nothing of this
//! may bind the same address by itself, and is given the slot then; where that cannot be seen, Node is taught to look.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use mio::Registry;

use super::slots::{Owner, Slots};
use crate::supervisor::event::{Failure, RunId, Stage};
use crate::supervisor::spec::{AppSpec, LISTEN_TCP, LISTEN_UNIX, Rare};
use crate::sys::local::Local;
use crate::sys::spawn::{self, Plan, ids};
use crate::sys::{errno, socket};

/// One entry of `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Tcp(SocketAddr),
    Unix(&'a str),
}

impl Place<'_> {
    /// What an entry means; None: it means nothing, which only a client can have sent.
    pub(super) fn of(entry: &str) -> Option<Place<'_>> {
        match entry.strip_prefix(LISTEN_UNIX) {
            Some(path) => Some(Place::Unix(path)),
            None => entry.strip_prefix(LISTEN_TCP)?.parse().ok().map(Place::Tcp),
        }
    }
}

/// Whether an app's entry names this address: then it may have it, whatever it could bind by itself.
pub(super) fn names(app: &AppSpec, address: SocketAddr) -> bool {
    app.listen().iter().any(|entry| Place::of(entry) == Some(Place::Tcp(address)))
}

/// Whether an app's entry names this Unix socket.
pub(super) fn names_path(app: &AppSpec, path: &str) -> bool {
    app.listen().iter().any(|entry| Place::of(entry) == Some(Place::Unix(path)))
}

/// How many connections may wait at each of an app's sockets.
pub(super) fn backlog(app: &AppSpec) -> u32 {
    app.launch.rare.as_deref().and_then(|rare| rare.listen_backlog).unwrap_or(socket::BACKLOG)
}

/// Hands all sockets of an app's entry to a run of it.
///
/// # Errors
/// One of them cannot be opened: none is handed out.
pub(super) fn lay(
    plan: &mut Plan,
    app: &AppSpec,
    owner: Owner<'_>,
    run: RunId,
    slots: &mut Slots,
    registry: &Registry,
) -> Result<(), Failure> {
    for entry in app.listen() {
        let failed = |error: &std::io::Error| failure(entry, errno::of(error));
        let fd = match Place::of(entry).ok_or_else(|| failure(entry, errno::UNFIT))? {
            Place::Tcp(address) => {
                let slot = slots.lend(address, owner, run, registry).map_err(|error| failed(&error))?;
                slot.set_nonblocking(false);
                let (inode, copy) = (slot.inode, slot.as_fd().try_clone_to_owned());
                slots.listens(run, inode);
                copy
            }
            Place::Unix(path) => {
                let shared = slots.locals.at(app, path)?;
                // Who has it still may want it otherwise.
                if shared.lent.is_empty() {
                    shared.local.block();
                }
                shared.lent.push(run);
                shared.local.as_fd().try_clone_to_owned()
            }
        };
        let number = spawn::behind(plan.handed.len());
        plan.handed.push((fd.map_err(|error| failed(&error))?, number));
    }
    Ok(())
}

fn failure(entry: &str, errno: i32) -> Failure {
    let (why, passing) = (errno::why(errno), errno::passing(errno));
    Failure { stage: Stage::Listen, object: entry.into(), errno, why, passing }
}

/// What tells a run which sockets it is handed. They all have the app's name.
pub(super) fn variables(app: &AppSpec) -> Vec<(&'static str, String)> {
    let count = app.listen().len();
    if count == 0 {
        return Vec::new();
    }
    vec![
        ("LISTEN_FDS", count.to_string()),
        // The child puts its own in this place.
        ("LISTEN_PID", std::process::id().to_string()),
        ("LISTEN_FDNAMES", vec![&*app.name; count].join(":")),
    ]
}

/// Options for Node that make `listen(PORT)` take the socket which was handed over for this port; None: this app is not
/// Node's, or is handed no port. Its children have the options too, and not the socket.
pub(super) fn for_node(app: &AppSpec) -> Option<String> {
    let program = app.launch.interpreter.first()?;
    if Path::new(program).file_name().is_none_or(|name| name != "node") {
        return None;
    }
    let ports = app.listen().iter().zip(spawn::FIRST..).filter_map(|(entry, fd)| match Place::of(entry)? {
        Place::Tcp(address) => Some(format!("{}:{fd}", address.port())),
        Place::Unix(_) => None,
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    (!ports.is_empty()).then(|| NODE.replace("PORTS", &ports))
}

/// As a URL: what the variable would be cut at, and what a URL ends with, is written as numbers.
const NODE: &str = "--import=data:text/javascript,import%20net%20from%20'node:net';\
    const%20fds={PORTS},own=process.env.LISTEN_PID==process.pid,listen=net.Server.prototype.listen;\
    net.Server.prototype.listen=function(...args){\
    const%20first=args[0],fd=own&&fds[first%20instanceof%20Object%3Ffirst.port:first];\
    return%20fd%3Flisten.call(this,{fd},...args.filter(arg=>typeof%20arg=='function')):listen.apply(this,args)}";

/// The Unix sockets of all apps.
#[derive(Debug, Default)]
pub(super) struct Locals(Vec<Shared>);

/// One of them.
#[derive(Debug)]
pub(super) struct Shared {
    app: Box<str>,
    path: Box<str>,
    local: Local,
    /// The runs that have it.
    lent: Vec<RunId>,
}

impl Locals {
    /// The socket of this app at this path; opened if need be, also where somebody has taken its file away.
    fn at(&mut self, app: &AppSpec, path: &str) -> Result<&mut Shared, Failure> {
        let known = self.0.iter().position(|shared| *shared.path == *path && *shared.app == *app.name);
        let known = known.filter(|at| self.0.get(*at).is_some_and(|shared| shared.local.is_at(Path::new(path))));
        let at = match known {
            Some(at) => at,
            None => {
                let local = open(app, path)?;
                self.0.retain(|shared| *shared.path != *path || *shared.app != *app.name);
                self.0.push(Shared { app: app.name.clone(), path: path.into(), local, lent: Vec::new() });
                self.0.len() - 1
            }
        };
        self.0.get_mut(at).ok_or_else(|| failure(path, errno::UNFIT))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|shared| shared.local.inode)
    }

    pub(super) fn run_is_over(&mut self, run: RunId) {
        self.0.iter_mut().for_each(|shared| shared.lent.retain(|lent| *lent != run));
    }

    /// Keeps those that are wanted. What waits at others is turned away when the last who has them is gone.
    pub(super) fn keep(&mut self, is_wanted: impl Fn(&str, &str) -> bool) {
        self.0.retain(|shared| {
            let wanted = is_wanted(&shared.app, &shared.path);
            if !wanted {
                shared.local.remove(Path::new(&*shared.path));
            }
            wanted
        });
    }
}

fn open(app: &AppSpec, path: &str) -> Result<Local, Failure> {
    let rare = app.launch.rare.as_deref();
    let ids = ids::resolve(rare.and_then(|rare| rare.user.as_deref()), rare.and_then(|rare| rare.group.as_deref()))?;
    let owner = socket::Owner { uid: ids.uid, gid: ids.gid };
    let mode = rare.and_then(|rare| rare.socket_mode).unwrap_or(Rare::SOCKET_MODE);
    Local::open(Path::new(path), mode.into(), owner, backlog(app))
        .map_err(|error| failure(&format!("{LISTEN_UNIX}{path}"), errno::of(&error)))
}

impl Slots {
    /// Opens what an app's entry names for the half of an instance whose next run is to come: connections wait there. Where
    /// that cannot be, its start says why.
    pub(super) fn open_named(&mut self, app: &AppSpec, owner: Owner<'_>, registry: &Registry) {
        for entry in app.listen() {
            match Place::of(entry) {
                Some(Place::Tcp(address)) => self.prepare(address, owner, registry),
                Some(Place::Unix(path)) => drop(self.locals.at(app, path)),
                None => {}
            }
        }
    }
}
