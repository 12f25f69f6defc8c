//! Init's share of what becomes of output: it makes the pipes, and tells the logger whose they are.
//!
//! Init makes two pipes for each start, holds the reading ends until they are empty and nobody can write any more, and
//! reads none of it: that is the logger's, who gets copies. So a logger that dies loses what it had read, and nothing
//! else. The pipes are a run's and not an instance's: then two runs can never share one, whatever processes the first has
//! left behind, and the end of a pipe is the end of all who could write into it.
//!
//! What pipes have room for is a budget: the kernel counts the pages of all that a user has, in every container that is
//! not in a user namespace of its own, and whoever is beyond gets next to nothing. Init stays below that, by pipes that are
//! smaller where there are many.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use log::warn;

use super::roles::Role;
use super::{Engine, launch};
use crate::control::role::{Ask, Known, Served, Targets, Tell};
use crate::control::{Problem, Refusal, Reply};
use crate::supervisor::event::{ClientId, Event, Failure, InstanceId, Outcome, RunId, Stage};
use crate::supervisor::instance::Instance;
use crate::supervisor::spec::LogMode;
use crate::sys::spawn::{Plan, Stream};
use crate::sys::{errno, fds};

/// The pipes of one run.
#[derive(Debug)]
struct Held {
    run: RunId,
    instance: InstanceId,
    pid: u32,
    /// Those of stdout and of stderr, in one piece: there may be thousands.
    ends: Arc<[OwnedFd; 2]>,
    /// The run has ended.
    over: bool,
    /// Then: what the logger has to know of its instance, which may be gone for good before a next logger is told.
    last: Option<Box<Known>>,
    /// The logger looks for the text that makes it ready.
    sought: bool,
}

/// The reading ends of a start that is under way.
#[derive(Debug)]
pub(super) struct Ends {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// All pipes that may still have something in them, and what the logger was told.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    held: Vec<Held>,
    /// Instances that the logger knows, sorted.
    known: Vec<InstanceId>,
    /// Changes whenever an instance comes or goes: how many there are, and the sum of their ids, which are never reused.
    crowd: (usize, u64),
    usual: LogMode,
    /// What loggers leave to each other, once there is an app whose output must not be lost.
    journal: Option<Arc<[OwnedFd; 3]>>,
}

/// Descriptors that are left for everything else: clients, starts under way, files that are read. Of a small table, a
/// quarter.
const SPARE: usize = 160;

/// Pages that a new pipe has room for, where there are so many pipes already and a user may have `most` pages: as the
/// kernel makes it for the first, and less for those beyond half of what may be; a quarter stays for others.
fn pages(pipes: usize, most: Option<usize>) -> usize {
    const FEW: usize = fds::PIPE_PAGES / 4;
    // The kernel's own answer to who has too many. It still takes a line of PIPE_BUF at once.
    const LEAST: usize = 2;
    let Some(most) = most else { return fds::PIPE_PAGES };
    let large = most / 2 / fds::PIPE_PAGES;
    let medium = most / 4 / FEW;
    match pipes.checked_sub(large) {
        None => fds::PIPE_PAGES,
        Some(beyond) if beyond < medium => FEW,
        Some(_) => LEAST,
    }
}

/// Makes a run's pipes, and its output go into them, where there are so many pipes already.
///
/// # Errors
/// There is no descriptor left.
pub(super) fn lay(plan: &mut Plan, pipes: usize) -> Result<Ends, Failure> {
    let pages = pages(pipes, fds::pipe_pages());
    let pipe = || -> Result<_, Failure> {
        let (reader, writer) = fds::pipe().map_err(no_pipe)?;
        if pages < fds::PIPE_PAGES {
            // To be given less is never refused, and one that is larger serves as well.
            let _ = fds::resize(&reader, pages);
        }
        Ok((reader, writer))
    };
    let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
    plan.stdout = Stream::Given(out);
    plan.stderr = Stream::Given(err);
    Ok(Ends { stdout, stderr })
}

/// There is no descriptor left for a run's pipe.
pub(super) fn no_pipe(error: io::Error) -> Failure {
    let errno = errno::of(&error);
    let (object, why, passing) = ("".into(), errno::why(errno), errno::passing(errno));
    Failure { stage: Stage::Pipe, object, errno, why, passing }
}

impl Pipes {
    /// How many bytes are in them, and of which instance the first.
    pub(super) fn unread(&self) -> (usize, Option<InstanceId>) {
        let of = |held: &Held| (held.ends.iter().map(fds::unread).sum::<usize>(), held.instance);
        let filled = self.held.iter().map(of).filter(|(bytes, _)| *bytes > 0);
        filled.fold((0, None), |(sum, first), (bytes, instance)| (sum + bytes, first.or(Some(instance))))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        2 * self.held.len()
    }

    /// Gives back what a crowd of starts has taken.
    pub(super) fn shrink(&mut self) {
        self.held.shrink_to_fit();
        self.known.shrink_to_fit();
    }
}

impl Engine {
    /// Whether the pipes of one more run, what it has for its own `words` and its sockets leave enough descriptors for all
    /// else.
    ///
    /// # Errors
    /// How many there would be, and what to do.
    pub(super) fn have_room(&self, output: bool, input: bool, words: usize, listen: usize) -> Result<(), Failure> {
        let own = 2 * usize::from(output) + usize::from(input) + words + listen;
        let limit = usize::try_from(fds::limit()).unwrap_or(usize::MAX);
        let sockets = self.channels.count() + self.notices.count() + self.slots.count() + self.intercepted.count();
        let sockets = sockets + self.runs.moved().count();
        let needed = own + self.pipes.count() + self.inputs.len() + sockets + SPARE.min(limit / 4);
        if own == 0 || needed <= limit {
            return Ok(());
        }
        let (what, instead) = match (output, input) {
            (true, false) => ("collecting its output", "log_mode = \"inherit\""),
            (true, true) => ("its input and output", "log_mode = \"inherit\" and stdin = \"null\""),
            (false, true) => ("its input", "stdin = \"null\""),
            (false, false) if words > 0 => ("hearing how it is", "ready = \"exec\" and no watchdog"),
            (false, false) => ("its sockets", "listen to fewer"),
        };
        let why = format!(
            "{what} would take {needed} file descriptors, of {limit}; raise the limit (ulimit -n), or set {instead}"
        );
        // Others may end, and leave theirs.
        let (stage, errno) = (Stage::Prepare, fds::TOO_MANY);
        Err(Failure { stage, object: "".into(), errno, why: why.into(), passing: true })
    }

    /// A run has begun to write into these.
    pub(super) fn hold_pipes(&mut self, ends: Ends, run: RunId, instance: InstanceId, pid: u32) {
        // First, as one that has just been started is told of all that is held.
        self.want(Role::Logger);
        let ends = Arc::new([ends.stdout, ends.stderr]);
        self.pipes.held.push(Held { run, instance, pid, ends, over: false, last: None, sought: false });
        // Its first line may come before anything else is told, and is to have the form of an app that is not alone.
        self.tell_who_is_there();
        // It may have another place or form than at its last start.
        self.tell_of_instance(instance);
        self.tell_of_pipes(self.pipes.held.len().saturating_sub(1));
    }

    /// A run's main process has been reaped.
    pub(super) fn run_is_over(&mut self, run: RunId) {
        self.inputs.close(run);
        self.hang_up(run);
        self.take_no_notice_of(run);
        self.stop_draining(run);
        self.probes.run_is_over(run);
        self.slots.run_is_over(run);
        self.intercepted.run_is_over(run);
        if let Some(held) = self.pipes.held.iter_mut().find(|held| held.run == run) {
            held.over = true;
            let known = |(app, instance)| Box::new(launch::known(app, instance, self.supervisor.settings()));
            held.last = self.supervisor.instance(held.instance).map(known);
            self.tell(Role::Logger, &Tell::Over { run }, None);
        }
    }

    /// Lets go of pipes that are empty and have ended.
    pub(super) fn drop_drained_pipes(&mut self) {
        let ended = |held: &Held| held.over && held.ends.iter().all(fds::is_drained);
        self.pipes.held.retain(|held| !ended(held));
    }

    /// pm3 ends: what is in pipes now, nobody will write anywhere.
    pub(super) fn tell_of_lost_output(&self) {
        let (bytes, Some(first)) = self.pipes.unread() else { return };
        let who = self.supervisor.instance(first).map_or_else(|| "an app".into(), |(app, one)| one.who(app));
        warn!("{bytes} bytes of output are lost, of {who} and maybe others: no logger has moved them");
    }

    /// What a logger that has just been started has to know.
    pub(super) fn brief_logger(&mut self) {
        self.drop_drained_pipes();
        self.tell_of_journal();
        self.pipes.usual = self.usual_mode();
        self.tell(Role::Logger, &Tell::Usual { mode: self.pipes.usual }, None);
        self.pipes.known.clear();
        // Each by its place: to look it up by its id takes as long as there are instances.
        for at in 0..self.supervisor.apps().len() {
            for nth in 0.. {
                let app = self.supervisor.apps().get(at).filter(|app| app.spec.launch.output.mode.is_collected());
                let Some((app, one)) = app.and_then(|app| Some((&app.spec, app.instances.get(nth)?))) else { break };
                self.tell_of(launch::known(app, one, self.supervisor.settings()));
            }
        }
        for at in 0..self.pipes.held.len() {
            self.tell_of_pipes(at);
        }
        if self.pipes.journal.is_some() {
            self.tell(Role::Logger, &Tell::Briefed, None);
        }
    }

    /// Gives the logger its journal, if there is one.
    fn tell_of_journal(&mut self) {
        if let Some(journal) = &self.pipes.journal {
            let journal = Arc::clone(journal);
            self.tell(Role::Logger, &Tell::Journal, Some(journal));
        }
    }

    /// Makes the journal that loggers leave to each other, for the first app that needs it.
    fn begin_journal(&mut self) {
        let made = || {
            let (reader, writer) = fds::pipe()?;
            Ok([fds::in_memory(c"pm3-journal")?, reader, writer])
        };
        match made() {
            Ok(journal) => self.pipes.journal = Some(Arc::new(journal)),
            Err(error) => {
                let why: io::Error = error;
                warn!("a logger that is killed will lose what it has just read: {}", errno::why(errno::of(&why)));
                return;
            }
        }
        self.tell_of_journal();
        if !self.roles.is_briefing() {
            self.tell(Role::Logger, &Tell::Briefed, None);
        }
    }

    /// Tells the logger who has gone for good, and which form is the usual one among so many apps.
    pub(super) fn tell_who_is_there(&mut self) {
        if self.pipes.known.is_empty() && self.pipes.held.is_empty() {
            return;
        }
        let crowd = |(count, sum): (usize, u64), id: InstanceId| (count + 1, sum.wrapping_add(id.0.into()));
        let crowd = self.supervisor.instances().map(|(_, one)| one.id).fold((0, 0), crowd);
        if std::mem::replace(&mut self.pipes.crowd, crowd) == crowd {
            return;
        }
        let mut there: Vec<InstanceId> = self.supervisor.instances().map(|(_, one)| one.id).collect();
        there.sort_unstable();
        let known = std::mem::take(&mut self.pipes.known);
        let (kept, gone): (Vec<_>, Vec<_>) = known.into_iter().partition(|id| there.binary_search(id).is_ok());
        self.pipes.known = kept;
        for id in gone {
            self.tell(Role::Logger, &Tell::Forget { id }, None);
        }
        let usual = self.usual_mode();
        if std::mem::replace(&mut self.pipes.usual, usual) != usual {
            self.tell(Role::Logger, &Tell::Usual { mode: usual }, None);
        }
    }

    /// Where several apps share a place, each line has to say whose it is.
    fn usual_mode(&self) -> LogMode {
        let mut apps = self.supervisor.instances().map(|(app, _)| &app.name);
        let first = apps.next();
        if apps.any(|name| Some(name) != first) { LogMode::Prefix } else { LogMode::Raw }
    }

    fn tell_of_instance(&mut self, id: InstanceId) {
        let Some((app, instance)) = self.supervisor.instance(id) else { return };
        let known = launch::known(app, instance, self.supervisor.settings());
        self.tell_of(known);
    }

    fn tell_of(&mut self, known: Known) {
        if known.lossless && self.pipes.journal.is_none() {
            self.begin_journal();
        }
        if let Err(at) = self.pipes.known.binary_search(&known.id) {
            self.pipes.known.insert(at, known.id);
        }
        self.tell(Role::Logger, &Tell::Know(Box::new(known)), None);
    }

    fn tell_of_pipes(&mut self, at: usize) {
        let Some(Held { run, instance: id, pid, ends, over, last, .. }) = self.pipes.held.get(at) else { return };
        let (run, id, pid, over) = (*run, *id, *pid, *over);
        let ends: Arc<[OwnedFd; 2]> = Arc::clone(ends);
        let gone = last.clone().filter(|_| self.supervisor.instance(id).is_none());
        let is_gone = gone.is_some();
        if let Some(known) = gone {
            self.tell(Role::Logger, &Tell::Know(known), None);
        }
        let ready = self.sought(run, id);
        if let Some(held) = self.pipes.held.get_mut(at) {
            held.sought = ready.is_some();
        }
        self.tell(Role::Logger, &Tell::Open { run, id, pid, ready }, Some(ends));
        if over {
            self.tell(Role::Logger, &Tell::Over { run }, None);
        }
        if is_gone {
            self.tell(Role::Logger, &Tell::Forget { id }, None);
        }
    }

    /// The text that makes this run ready, while that is waited for.
    fn sought(&self, run: RunId, id: InstanceId) -> Option<Box<str>> {
        let (app, one) = self.supervisor.instance(id)?;
        one.life_of(run).filter(|life| life.is_coming()).and(app.ready_line()).map(Into::into)
    }

    /// The logger has found in the output of these runs what makes them ready.
    pub(super) fn found_ready(&mut self, runs: &[RunId]) {
        for run in runs.iter().copied() {
            // Whoever writes executes, and the supervisor is told so first.
            self.start_advanced(run);
            let Some(held) = self.pipes.held.iter_mut().find(|held| held.run == run) else { continue };
            let id = held.instance;
            if std::mem::take(&mut held.sought) && self.sought(run, id).is_some() {
                self.happened(Event::Ready { run });
            }
        }
    }

    /// Time has passed: runs that are not waited for any more are not searched any more.
    pub(super) fn mind_sought(&mut self) {
        let is_vain = |held: &Held| held.sought && !held.over && self.sought(held.run, held.instance).is_none();
        let vain: Vec<RunId> = self.pipes.held.iter().filter(|held| is_vain(held)).map(|held| held.run).collect();
        for run in vain {
            self.pipes.held.iter_mut().filter(|held| held.run == run).for_each(|held| held.sought = false);
            self.tell(Role::Logger, &Tell::Enough { run }, None);
        }
    }

    /// Hands a client over to the logger, if what it asks for makes sense.
    pub(super) fn hand_to_logger(&mut self, client: ClientId, ask: Ask, targets: &[Box<str>]) {
        let mut outcome = Outcome::default();
        let ids = self.supervisor.resolve_all(targets, &mut outcome);
        let all = targets.is_empty() || targets.iter().any(|target| **target == *"all");
        let mut of = Targets { all, ..Targets::default() };
        let named: BTreeSet<&str> = targets.iter().map(|target| &**target).collect();
        // Of all, those that have no output to show are passed over.
        let meant = |one: &Instance| !of.all && ids.binary_search(&one.id).is_ok();
        for (app, one) in self.supervisor.instances().filter(|(_, one)| meant(one)) {
            if !app.launch.output.mode.is_collected() {
                let why = "its output is not collected: its log_mode is inherit or none";
                outcome.failed.push(format!("{}: {why}", one.who(app)).into());
            } else if !named.contains(&*app.name) {
                of.ids.push(one.id);
            } else if of.apps.last() != Some(&app.name) {
                of.apps.push(app.name.clone());
            }
        }
        of.apps.sort_unstable();
        of.ids.sort_unstable();
        if !outcome.failed.is_empty() {
            return self.reply(client, &Reply::Outcome(outcome));
        }
        // Where nobody needed a logger so far, nothing was written; who does not wait for it needs none for that.
        if !self.roles.is_wanted(Role::Logger) && matches!(&ask, Ask::Read(query) if !query.follow) {
            return self.reply(client, &Reply::Outcome(outcome));
        }
        self.want(Role::Logger);
        if !self.roles.is_up(Role::Logger) {
            let why = if self.can_have_roles() {
                "the logger is just being replaced"
            } else {
                "without /proc output is not collected"
            };
            let refusal = Refusal { problem: Problem::Busy, why: why.into(), hint: "try again".into() };
            return self.reply(client, &Reply::Error(refusal));
        }
        if let Some(connection) = self.server.hand_over(client, self.poll.registry()) {
            self.tell(Role::Logger, &Tell::Serve(Box::new(Served { ask, of })), Some(Arc::new([connection])));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;

    /// The pages of that many pipes together.
    fn sum(pipes: usize, most: usize) -> usize {
        (0..pipes).map(|count| pages(count, Some(most))).sum()
    }

    #[test]
    fn hundreds_of_apps_leave_pages_to_others() {
        const SOFT: usize = 16_384;
        assert_eq!(sum(2 * 256, SOFT), SOFT / 2);
        assert_eq!(sum(2 * (256 + 512), SOFT), SOFT * 3 / 4);
        assert_eq!(pages(10_000, Some(SOFT)), 2);
        assert_eq!(pages(10_000, None), fds::PIPE_PAGES);
        for most in [0, 1, 16, 63, 64, 65, 1_000, SOFT] {
            let two_each = (0..10_000).find(|count| pages(*count, Some(most)) == 2).unwrap();
            assert!(sum(two_each, most) <= most * 3 / 4, "{most}");
        }
    }

    #[test]
    fn a_pipe_gets_what_is_left() {
        let room = |pipes: usize| {
            let ends = lay(&mut Plan::default(), pipes).unwrap();
            [ends.stdout, ends.stderr].map(|end| fcntl(end, FcntlArg::F_GETPIPE_SZ).unwrap())
        };
        let [few, many] = [0, 1_000_000].map(room);
        assert!(few[0] == few[1] && many[0] == many[1], "{few:?} {many:?}");
        // Two pages; the first may have got no more, by what else this user has.
        let least = few[0].min((8 << 10).max(few[0] / 8));
        assert_eq!(many[0], if fds::pipe_pages().is_some() { least } else { few[0] });
    }
}
