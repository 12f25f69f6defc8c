//! Other processes, as /proc shows them (proc(5)): who belongs to a run, who is left at all, how much memory they hold.
//! Asked once a second while an app has a memory limit, so nothing here allocates once its buffers have grown: paths
//! and texts live on the stack. Everything is a guess by the time it is returned: a process may have ended.

mod cpu;
mod environ;
pub(super) mod file;
mod memory;
mod sockets;
mod stat;

use std::time::Duration;

use nix::unistd::Pid;

use super::{clock, kill, place, reap};
use crate::supervisor::event::Mono;

pub use cpu::{are_at_work, cpu_ms};
pub use environ::MARK_MAX;
pub(super) use environ::as_owner;
pub use memory::{private, proportional};
pub use sockets::{Sockets, ephemeral_ports, sockets_of_all};

/// A run, as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// Its main process, which leads a session.
    pub main: u32,
    /// Whether that process has not been reaped yet. Afterwards its number may be somebody else's.
    pub alive: bool,
    /// The value of `PM3_RUN` in the run's environment, at most [`MARK_MAX`] bytes; no other run of any pm3 has it.
    pub mark: &'a str,
}

/// More processes than a tree may have before we stop looking: a pid that is reused while we look could make it endless.
const TREE_MAX: usize = 1 << 17;

/// Ending takes a process less than this, unless something holds it.
const LEAVING_MAX: Duration = Duration::from_millis(50);

/// What has been read of a child holds for so long: it may leave its session or its mark behind at any time, but that needs
/// not be asked a hundred times while a hundred runs end.
const FRESH: Duration = Duration::from_millis(100);

/// Finds processes.
#[derive(Debug)]
pub struct Processes {
    source: Source,
    /// Our own children that are no run's main process: orphans that came to us.
    adopted: Vec<Adopted>,
    /// Those of the look before, of which not all is read anew.
    known: Vec<Adopted>,
    /// When the oldest of what is known of them was read.
    read_at: Mono,
    /// One of those had ended when we looked at it, so nobody knows whose it was; its children may have come to us too
    /// late to be seen.
    blurred: bool,
    /// Those that were about to end, and since when we know.
    leaving: Vec<(u32, Mono)>,
    /// With `Source::Table`: parent and child, sorted.
    table: Vec<(u32, u32)>,
}

/// Where the relation of parent and child is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `/proc/PID/task/TID/children`: only what is asked about.
    Files,
    /// The kernel has no such files (CONFIG_PROC_CHILDREN): every process is looked at.
    Table,
    /// No /proc, or that of another pid namespace.
    Nothing,
}

#[derive(Debug)]
struct Adopted {
    pid: u32,
    session: Option<u32>,
    mark: environ::Mark,
}

impl Processes {
    pub fn new() -> Processes {
        let source = match (place::has_own_proc(), file::open(format_args!("/proc/thread-self/children"))) {
            (false, _) => Source::Nothing,
            (true, Ok(_)) => Source::Files,
            (true, Err(_)) => Source::Table,
        };
        Processes {
            source,
            adopted: Vec::new(),
            known: Vec::new(),
            read_at: Mono(0),
            blurred: false,
            leaving: Vec::new(),
            table: Vec::new(),
        }
    }

    /// As `new`, on a kernel without the `children` files.
    pub fn scanning() -> Processes {
        let known = Processes::new();
        let source = if known.source == Source::Nothing { Source::Nothing } else { Source::Table };
        Processes { source, ..known }
    }

    /// Looks who our children are. To be called before a batch of [`tree`](Self::tree); `is_main` tells the children
    /// that are a run's main process.
    pub fn refresh(&mut self, is_main: impl Fn(u32) -> bool) {
        self.look();
        let now = clock::now();
        let Processes { source, adopted, known, read_at, blurred, leaving, table } = self;
        let before = std::mem::take(leaving);
        std::mem::swap(adopted, known);
        adopted.clear();
        if now.since(*read_at) >= FRESH {
            known.clear();
            *read_at = now;
        }
        known.sort_unstable_by_key(|child| child.pid);
        *blurred = false;
        // First all of them, then each: otherwise who makes children faster than we look at them would hold us here.
        children_of(*source, table, None, &mut |pid| {
            if !is_main(pid) {
                adopted.push(Adopted { pid, session: None, mark: environ::Mark::NONE });
            }
        });
        for child in adopted.iter_mut() {
            let seen = known.binary_search_by_key(&child.pid, |known| known.pid).ok().and_then(|at| known.get(at));
            if let Some(seen) = seen.filter(|seen| !seen.mark.is_none()) {
                (child.session, child.mark) = (seen.session, seen.mark);
                continue;
            }
            child.session = session(child.pid);
            child.mark = environ::mark(child.pid);
            *blurred = *blurred || child.mark.is_none() && is_on_its_way(child.pid, now, &before, leaving);
        }
        // The next look fills that one.
        known.clear();
        known.reserve(adopted.len());
    }

    /// Gives back what a crowd of orphans has taken.
    pub fn shrink(&mut self) {
        self.known = Vec::new();
        self.adopted.shrink_to_fit();
    }

    /// These children have been reaped: their numbers may be somebody else's.
    pub fn forget(&mut self, reaped: impl Iterator<Item = u32>) {
        let mut reaped: Vec<u32> = reaped.collect();
        reaped.sort_unstable();
        self.adopted.retain(|child| reaped.binary_search(&child.pid).is_err());
    }

    /// Whether all our children are of these. False where that cannot be seen.
    pub fn no_child_but(&mut self, known: impl Fn(u32) -> bool) -> bool {
        self.look();
        let mut others = self.source == Source::Nothing;
        children_of(self.source, &self.table, None, &mut |pid| others |= !known(pid));
        !others
    }

    /// Whether the last `refresh` met with a child that has ended: what [`tree`](Self::tree) does not show may be there
    /// nevertheless. To be asked again when that child has been reaped.
    pub fn is_blurred(&self) -> bool {
        self.blurred
    }

    /// Appends the processes of a run: the main one, adopted ones that are in its session or carry its mark, and
    /// all descendants of these. Without /proc, the main one alone.
    pub fn tree(&self, root: &Root, into: &mut Vec<u32>) {
        let start = into.len();
        if root.alive {
            into.push(root.main);
        }
        into.extend(self.adopted_of(root).map(|child| child.pid));
        self.descend(start, into);
    }

    /// Whether an orphan of the run has come to us: what is left of one whose main process has ended.
    pub fn has_any(&self, root: &Root) -> bool {
        self.adopted_of(root).next().is_some()
    }

    fn adopted_of(&self, root: &Root) -> impl Iterator<Item = &Adopted> {
        // A number cannot be given away while a session is called by it. So if it belongs to somebody else now, the
        // run's session is empty.
        let session = (root.alive || !kill::alive(root.main)).then_some(root.main);
        let ours = move |child: &&Adopted| session.is_some() && child.session == session || child.mark.is(root.mark);
        self.adopted.iter().filter(ours)
    }

    /// Whether a process is one of a run's, or was while this looked: by who its parents are, without looking at others.
    /// Not sure counts as no, and so does all without /proc.
    pub fn belongs(&self, pid: u32, root: &Root) -> bool {
        /// Who moves that often while we look does so on purpose.
        const LOOKS_MAX: usize = 8;
        self.source != Source::Nothing && (0..LOOKS_MAX).find_map(|_| climb(pid, root)).unwrap_or(false)
    }

    /// Appends every process that the end of pm3 concerns: as the first of our pid namespace all but ourselves, else
    /// our descendants. Without /proc, none.
    pub fn everything(&mut self, into: &mut Vec<u32>) {
        if place::is_pid_1() && self.source != Source::Nothing {
            let ours = std::process::id();
            // On a machine of our own the kernel's threads are there as well, and cannot be ended.
            every_process(&mut |pid, stat| {
                if pid != ours && !stat.is_kernels {
                    into.push(pid);
                }
            });
            return;
        }
        self.look();
        let start = into.len();
        children_of(self.source, &self.table, None, &mut |pid| into.push(pid));
        self.descend(start, into);
    }

    /// Appends the descendants of those that stand from `start` on.
    fn descend(&self, start: usize, into: &mut Vec<u32>) {
        let mut at = start;
        while let Some(parent) = into.get(at).copied().filter(|_| at - start < TREE_MAX) {
            children_of(self.source, &self.table, Some(parent), &mut |child| into.push(child));
            at += 1;
        }
    }

    fn look(&mut self) {
        if self.source == Source::Table {
            self.table.clear();
            every_process(&mut |pid, stat| self.table.push((stat.parent, pid)));
            self.table.sort_unstable();
        }
    }
}

impl Default for Processes {
    fn default() -> Processes {
        Processes::new()
    }
}

/// The name of a process's program, cut to 15 bytes by the kernel (comm, proc(5)).
pub fn name(pid: u32) -> Option<String> {
    let mut text = [0; 64];
    let name = file::read(format_args!("/proc/{pid}/comm"), &mut text).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

/// The children of a process, or our own.
fn children_of(source: Source, table: &[(u32, u32)], parent: Option<u32>, found: &mut impl FnMut(u32)) {
    match (source, parent) {
        (Source::Nothing, _) => {}
        // We have one thread; others may have any, and each has the children that it made.
        (Source::Files, None) => file::each_number(format_args!("/proc/thread-self/children"), found),
        (Source::Files, Some(pid)) => file::each_entry(format_args!("/proc/{pid}/task"), &mut |thread| {
            file::each_number(format_args!("/proc/{pid}/task/{thread}/children"), found);
        }),
        (Source::Table, parent) => {
            let parent = parent.unwrap_or_else(std::process::id);
            let first = table.partition_point(|(of, _)| *of < parent);
            let children = table.get(first..).unwrap_or_default().iter().take_while(|(of, _)| *of == parent);
            children.for_each(|(_, child)| found(*child));
        }
    }
}

/// Every process that /proc shows.
fn every_process(found: &mut impl FnMut(u32, stat::Stat)) {
    file::each_entry(format_args!("/proc"), &mut |pid| {
        let mut text = [0; 1024];
        if let Some(stat) = file::read(format_args!("/proc/{pid}/stat"), &mut text).ok().and_then(stat::parse) {
            found(pid, stat);
        }
    });
}

/// Goes from a process to its parents, up to one that is the run's. None: it had another parent meanwhile, or has ended.
fn climb(pid: u32, root: &Root) -> Option<bool> {
    /// Deeper than anybody starts programs.
    const DEPTH_MAX: usize = 64;
    let (ours, mut at, mut below) = (std::process::id(), pid, None);
    for _ in 0..DEPTH_MAX {
        let parent = parent(at)?;
        let found = match parent {
            _ if root.alive && at == root.main => Some(true),
            // As of those that `refresh` finds.
            _ if parent == ours => {
                let is_led = (root.alive || !kill::alive(root.main)) && session(at) == Some(root.main);
                Some(is_led || environ::mark(at).is(root.mark))
            }
            0 => Some(false),
            _ => None,
        };
        // While it has a child, its number is its own.
        if below.is_some_and(|child| self::parent(child) != Some(at)) {
            return None;
        }
        if found.is_some() {
            return found;
        }
        (below, at) = (Some(at), parent);
    }
    Some(false)
}

fn parent(pid: u32) -> Option<u32> {
    let mut text = [0; 1024];
    Some(file::read(format_args!("/proc/{pid}/stat"), &mut text).ok().and_then(stat::parse)?.parent)
}

fn session(pid: u32) -> Option<u32> {
    nix::unistd::getsid(Some(raw(pid))).ok().map(|sid| sid.as_raw().unsigned_abs())
}

/// Whether a child has ended and will be reaped, or is about to end: either tells of itself soon. One that has been about
/// to end for longer is stuck, say with a file of a dead server, and one that cannot be reaped is a debugger's: nothing
/// waits for those.
fn is_on_its_way(pid: u32, now: Mono, before: &[(u32, Mono)], leaving: &mut Vec<(u32, Mono)>) -> bool {
    let mut text = [0; 1024];
    match file::read(format_args!("/proc/{pid}/stat"), &mut text).ok().and_then(stat::parse) {
        Some(stat) if stat.is_zombie => reap::is_due(pid),
        Some(stat) if stat.is_leaving => {
            let since = before.iter().find(|(known, _)| *known == pid).map_or(now, |(_, since)| *since);
            leaving.push((pid, since));
            now.since(since) < LEAVING_MAX
        }
        Some(_) | None => false,
    }
}

fn raw(pid: u32) -> Pid {
    // Not 0 where the number is out of range: that would be ourselves.
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
