//! What becomes of a program's `bind` and `listen`: its TCP socket on a fixed port of this machine is exchanged for a slot
//! of pm3's, everything else goes on as if nobody had looked. A program never gets a port that it could not have bound
//! by itself, and one whose socket cannot be looked at keeps its own.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use log::warn;
use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::listen;
use super::slots::Owner;
use super::{CALLS, Engine};
use crate::supervisor::event::{Event, Half, InstanceId, RunId};
use crate::supervisor::instance::Instance;
use crate::supervisor::spec::{AppSpec, Kind};
use crate::sys::intercept::{Call, Caller, Calls, Manner, Next, Wanted, first_unprivileged_port};
use crate::sys::{errno, why};

/// Calls of one run that are answered in one wake-up: a program that binds without end holds nobody up.
const CALLS_MAX: usize = 64;

/// Calls of one spare that are held at a time, each by a thread of its own; more are refused.
const HELD_MAX: usize = 64;

/// The listeners of all runs that are intercepted.
#[derive(Debug, Default)]
pub(super) struct Intercepted {
    trees: Vec<Tree>,
    /// Runs that could not be, and why, as an errno.
    refused: Vec<(RunId, i32)>,
}

/// The processes of one run, whose calls are held.
#[derive(Debug)]
struct Tree {
    run: RunId,
    instance: InstanceId,
    half: Half,
    calls: Calls,
    /// Of a spare that stands by: what it wants to bind. These calls go on when it takes another one's place.
    held: Vec<Held>,
}

/// A `bind` that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Held {
    call: Call,
    address: SocketAddr,
    manner: Manner,
}

/// Whose `bind` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It gets what it asks for.
    Serving,
    /// It is to wait.
    Spare,
    /// It is, or was, a spare, and on its way out: it shall get nothing any more.
    Leaving,
}

/// What becomes of a `bind`.
enum Fate {
    /// It is none of ours.
    Pass,
    /// It cannot be looked at, for this errno.
    Unseen(i32),
    Swap(SocketAddr, Manner),
}

impl Intercepted {
    pub(super) fn count(&self) -> usize {
        self.trees.len()
    }

    /// The run is over; what is left of its tree is intercepted still.
    pub(super) fn run_is_over(&mut self, run: RunId) {
        self.refused.retain(|(refused, _)| *refused != run);
        self.dismiss(run);
    }

    /// The run does not stand by any more: each call of it that is held fails. Before that no thread that made one could
    /// hear a signal but SIGKILL (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, seccomp(2)).
    pub(super) fn dismiss(&mut self, run: RunId) {
        for tree in self.trees.iter_mut().filter(|tree| tree.run == run) {
            tree.held.drain(..).for_each(|held| tree.calls.refuse(&held.call, errno::CANCELLED));
        }
    }
}

impl Engine {
    /// The child of a run is held at its calls from now on.
    pub(super) fn intercept(&mut self, run: RunId, instance: InstanceId, half: Half, calls: Calls) {
        let fd = calls.as_raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token(run), Interest::READABLE) {
            warn!("run {} cannot be intercepted: {}", run.0, why(errno::of(&error)));
        }
        self.intercepted.trees.push(Tree { run, instance, half, calls, held: Vec::new() });
    }

    /// The child of a run could not be held, or could not be looked at when it was: its program opens its own sockets.
    pub(super) fn not_intercepted(&mut self, run: RunId, errno: i32) {
        let who = self.runs.by_run(run).and_then(|entry| self.supervisor.instance(entry.instance));
        // Told once, however many sockets it opens.
        if self.intercepted.refused.iter().any(|(refused, _)| *refused == run) {
            return;
        }
        if let Some((app, one)) = who {
            warn!("{}: its ports are its own and not shared: seccomp: {}", one.who(app), why(errno));
        }
        self.intercepted.refused.push((run, errno));
    }

    /// Some process of the run has made a call, or none is left.
    pub(super) fn answer_calls(&mut self, run: RunId) {
        // Whoever calls executes, and the supervisor is told so first.
        self.start_advanced(run);
        for _ in 0..CALLS_MAX {
            let Some(tree) = self.intercepted.trees.iter().find(|tree| tree.run == run) else { return };
            match tree.calls.next() {
                Next::Call(call) => self.answer_call(run, &call),
                Next::Nothing => return,
                Next::Over => {
                    let _ = self.poll.registry().deregister(&mut SourceFd(&tree.calls.as_raw_fd()));
                    self.intercepted.trees.retain(|tree| tree.run != run);
                    return;
                }
            }
        }
        // What waits already is told anew by this, and by nothing else.
        if let Some(tree) = self.intercepted.trees.iter().find(|tree| tree.run == run) {
            let fd = tree.calls.as_raw_fd();
            let _ = self.poll.registry().reregister(&mut SourceFd(&fd), token(run), Interest::READABLE);
        }
    }

    fn answer_call(&mut self, run: RunId, call: &Call) {
        let Some(at) = self.intercepted.trees.iter().position(|tree| tree.run == run) else { return };
        let Some(instance) = self.intercepted.trees.get(at).map(|tree| tree.instance) else { return };
        let caller = Caller::of(call);
        match call.wanted {
            Wanted::Bind { address, length } => {
                let fate = self.fate(instance, &caller, address, length);
                let role = self.role(run, instance);
                let Some(tree) = self.intercepted.trees.get(at) else { return };
                // What was read may be of another process that has got its number since.
                if !tree.calls.is_waiting(call) {
                    return;
                }
                match (fate, role) {
                    (Fate::Pass, _) => tree.calls.pass(call),
                    (Fate::Unseen(errno), Role::Serving) => {
                        tree.calls.pass(call);
                        self.not_intercepted(run, errno);
                    }
                    // It may be the port that the others serve at.
                    (Fate::Unseen(errno), Role::Spare) => {
                        tree.calls.refuse(call, errno::CANCELLED);
                        self.happened(Event::Unfit { run, why: format!("seccomp: {}", why(errno)).into() });
                    }
                    (Fate::Swap(address, manner), Role::Serving) => self.swap(at, call, address, manner),
                    (Fate::Swap(address, manner), Role::Spare) => self.hold(at, Held { call: *call, address, manner }),
                    (Fate::Unseen(_) | Fate::Swap(..), Role::Leaving) => tree.calls.refuse(call, errno::CANCELLED),
                }
            }
            Wanted::Listen | Wanted::Listens => {
                let inode = caller.inode();
                let Some(tree) = self.intercepted.trees.get(at) else { return };
                if !tree.calls.is_waiting(call) {
                    return;
                }
                let is_ours = inode.is_ok_and(|inode| self.slots.listens(run, inode));
                // Ours listens already, and with the backlog that it is to have; who asks is told so by the kernel.
                if is_ours && call.wanted == Wanted::Listen {
                    tree.calls.grant(call);
                } else {
                    tree.calls.pass(call);
                }
                if is_ours && self.is_complete(at) {
                    self.happened(Event::Listening { run });
                }
            }
        }
    }

    /// Whether a run that begins to listen can be reached in all ways: in as many as the one that it is to follow.
    fn is_complete(&self, at: usize) -> bool {
        let Some(Tree { run, instance, .. }) = self.intercepted.trees.get(at) else { return false };
        let first = self.supervisor.instance(*instance).and_then(|(_, one)| one.run());
        first.is_none_or(|first| first == *run || self.slots.serves_as(*run, first))
    }

    /// Whose an instance's ports are, and why.
    pub(super) fn ports(&self, app: &AppSpec, one: &Instance) -> Box<str> {
        let of_run = self.intercepted.refused.iter().find(|(run, _)| one.run() == Some(*run)).map(|(_, errno)| *errno);
        let refused = self.origin.unable.or(of_run);
        let is_fork = app.launch.rare.as_deref().is_some_and(|rare| rare.fork);
        if !app.listen().is_empty() {
            let others = match refused {
                _ if is_fork => "; others its own: exec_mode is fork".into(),
                Some(errno) if self.origin.unable.is_some() && listen::for_node(app).is_some() => {
                    format!(
                        ", which Node takes for listen(PORT) by $NODE_OPTIONS; others its own: seccomp: {}",
                        why(errno)
                    )
                }
                Some(errno) => format!("; others its own: seccomp: {}", why(errno)),
                None => String::new(),
            };
            return format!("pm3's, handed over as $LISTEN_FDS{others}").into();
        }
        match (app.kind, refused) {
            (Kind::Oneshot, _) => Box::default(),
            _ if is_fork => "its own: exec_mode is fork".into(),
            _ if one.is_standing_by() => "none until it takes over from an instance that has died".into(),
            (_, Some(errno)) => format!("its own: seccomp: {}", why(errno)).into(),
            _ if self.slots.serve(one.id) => "pm3's, for all of its processes".into(),
            _ => Box::default(),
        }
    }

    /// What is to become of a `bind`.
    fn fate(&self, instance: InstanceId, caller: &Caller, at: u64, length: u32) -> Fate {
        let (address, manner) = match caller.look(at, length) {
            Ok(Some(seen)) => seen,
            // It has no such descriptor, which the kernel tells it.
            Ok(None) | Err(errno::ABSENT) => return Fate::Pass,
            Err(errno) => return Fate::Unseen(errno),
        };
        // An address of the app's entry is given to it, whoever it runs as.
        let may_have = address.port() >= first_unprivileged_port()
            || caller.may_bind_privileged()
            || self.supervisor.instance(instance).is_some_and(|(app, _)| listen::names(app, address));
        if address.port() == 0 || !may_have || !caller.shares_network() {
            return Fate::Pass;
        }
        Fate::Swap(address, manner)
    }

    /// What a run of this instance is now.
    fn role(&self, run: RunId, instance: InstanceId) -> Role {
        match self.supervisor.instance(instance) {
            Some((_, one)) if one.spare => {
                let stays = one.life().is_some_and(|life| life.run == run && life.is_up_or_coming());
                if stays { Role::Spare } else { Role::Leaving }
            }
            Some(_) | None => Role::Serving,
        }
    }

    /// Leaves a call of a spare without an answer, and tells that it stands by.
    fn hold(&mut self, at: usize, held: Held) {
        let Some(tree) = self.intercepted.trees.get_mut(at) else { return };
        // Who was killed in one waits no more; before Linux 5.19, one that a signal broke off is made once more.
        tree.held.retain(|held| tree.calls.is_waiting(&held.call));
        if tree.held.len() >= HELD_MAX {
            return tree.calls.refuse(&held.call, errno::CANCELLED);
        }
        tree.held.push(held);
        let run = tree.run;
        self.happened(Event::StandsBy { run });
    }

    /// Gives a run that stood by the sockets of the one whose place it takes, and lets it go on.
    pub(super) fn take_over(&mut self, run: RunId, from: InstanceId, half: Half) {
        if let Some(entry) = self.runs.by_run(run) {
            self.slots.hand_over((from, half), (entry.instance, entry.half));
        }
        let Some(at) = self.intercepted.trees.iter().position(|tree| tree.run == run) else { return };
        let held = self.intercepted.trees.get_mut(at).map(|tree| std::mem::take(&mut tree.held));
        for Held { call, address, manner } in held.unwrap_or_default() {
            if self.intercepted.trees.get(at).is_some_and(|tree| tree.calls.is_waiting(&call)) {
                self.swap(at, &call, address, manner);
            }
        }
    }

    /// Gives the caller a slot in the place of its own socket.
    fn swap(&mut self, at: usize, call: &Call, address: SocketAddr, manner: Manner) {
        let Some(Tree { run, instance, half, calls, .. }) = self.intercepted.trees.get(at) else { return };
        let Some((app, _)) = self.supervisor.instance(*instance) else { return calls.pass(call) };
        let owner = Owner::new(app, *instance, *half);
        match self.slots.lend(address, owner, *run, self.poll.registry()) {
            Ok(slot) => {
                slot.set_nonblocking(manner.nonblocking);
                match calls.give(call, slot, manner.cloexec) {
                    Ok(()) => calls.grant(call),
                    // It was killed, or its table of descriptors is full: then it hears that from the kernel.
                    Err(_) => calls.pass(call),
                }
            }
            // Another app's, or a stranger's: what the kernel would say, were the slots not ours.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => calls.refuse(call, errno::TAKEN),
            Err(_) => calls.pass(call),
        }
    }
}

fn token(run: RunId) -> Token {
    Token(CALLS + usize::try_from(run.0).unwrap_or(usize::MAX >> 2))
}
