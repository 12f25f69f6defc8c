//! Looking whether runs are well: a child for each look (`roles::probe`), with the ids of the app, its directory and its
//! environment. Init reads one line of it when it has ended, and ends the whole group of one that takes too long.
//!
//! A probe of one instance of several reaches that instance: at a port of pm3's its own address says which slot is meant
//! (`sys::slot::source`), also before any other client would be sent there. Where the address is IPv6 alone, which has no
//! room for that, or where the app owns its port, whoever answers there has been asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::task::Poll;

use log::warn;

use super::slots::Way;
use super::{Engine, launch};
use crate::supervisor::event::{End, Event, Failure, Finding, Millis, Mono, RunId, Sig};
use crate::supervisor::spec::Probe;
use crate::sys::spawn::{self, Plan, Progress, Stream};
use crate::sys::{clock, fds, kill};

/// Probes at once: each holds two descriptors and a process. The others wait for their turn.
const PROBES_MAX: usize = 16;

/// Bytes of a probe's line.
const LINE_MAX: usize = 512;

/// Those under way, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Probes {
    under_way: Vec<Looking>,
    waiting: VecDeque<RunId>,
}

#[derive(Debug)]
struct Looking {
    run: RunId,
    pid: u32,
    /// Then it has failed.
    until: Mono,
    timeout: Millis,
    /// Somebody has ended it.
    killed: bool,
    /// And nobody wants to know what it would have found.
    vain: bool,
    /// Its line.
    output: OwnedFd,
    /// Tells why its program did not start, if it did not.
    status: OwnedFd,
}

impl Probes {
    /// Whether this is the pid of a probe.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.under_way.iter().any(|one| one.pid == pid)
    }

    /// How many there are, but for those that have been ended: one may be stuck in the kernel, and others shall not wait for
    /// that.
    fn count(&self) -> usize {
        self.under_way.iter().filter(|one| !one.killed).count()
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.under_way.iter().filter(|one| !one.killed).map(|one| one.until).min()
    }

    /// The run is over: nobody asks how it is.
    pub(super) fn run_is_over(&mut self, run: RunId) {
        self.waiting.retain(|waiting| *waiting != run);
        for one in self.under_way.iter_mut().filter(|one| one.run == run) {
            one.vain = true;
            one.end();
        }
    }
}

impl Looking {
    /// Ends it with all that it has started.
    fn end(&mut self) {
        if !self.killed {
            self.killed = true;
            kill::group(self.pid, Sig::KILL);
            // It may not lead its group yet.
            kill::process(self.pid, Sig::KILL);
        }
    }
}

/// What a probe is to do.
enum Aim {
    Words(Vec<String>),
    /// There is nothing to ask.
    Nowhere(String),
}

impl Engine {
    /// Looks whether this run is well.
    pub(super) fn probe(&mut self, run: RunId) {
        self.probes.waiting.push_back(run);
    }

    /// Starts those that wait, as far as there is room, and ends those that take too long.
    pub(super) fn mind_probes(&mut self) {
        let now = clock::now();
        let ending = self.supervisor.is_ending();
        for one in &mut self.probes.under_way {
            one.vain |= ending;
            if one.vain || one.until <= now {
                one.end();
            }
        }
        if ending {
            self.probes.waiting.clear();
        }
        while self.probes.count() < PROBES_MAX
            && let Some(run) = self.probes.waiting.pop_front()
        {
            match self.start_probe(run, now) {
                Ok(()) => {}
                Err(finding) => self.happened(Event::Probed { run, finding }),
            }
        }
    }

    fn start_probe(&mut self, run: RunId, now: Mono) -> Result<(), Finding> {
        let unknown = |failure: Failure| {
            let why = format!("it cannot be seen whether it is well: {failure}");
            warn!("run {}: {why}", run.0);
            Finding::Unknown(why.into())
        };
        let Some((app, one)) = self.supervisor.of_run(run) else { return Ok(()) };
        let Some(health) = app.health.as_deref() else { return Err(Finding::Unknown("nobody asks any more".into())) };
        let timeout = health.timeout;
        let mut plan = launch::visitor(app, one, run, self.supervisor.settings(), &self.origin).map_err(unknown)?;
        let words = match self.aim(&app.name, run, &health.probe, launch::port(&plan.env)) {
            Aim::Words(words) => words,
            Aim::Nowhere(why) => return Err(Finding::Ill(why.into())),
        };
        let words = ["pm3".to_owned(), "probe".to_owned()].into_iter().chain(words);
        plan.argv = words.map(spawn::c_string).collect::<Result<_, _>>().map_err(unknown)?;
        let (output, child) = start(plan).map_err(unknown)?;
        let until = now.after(timeout.span());
        let (pid, status) = (child.pid, child.status);
        self.probes.under_way.push(Looking { run, pid, until, timeout, killed: false, vain: false, output, status });
        Ok(())
    }

    /// What is to be asked. `usual` is the port that the app's environment names.
    fn aim(&self, app: &str, run: RunId, probe: &Probe, usual: Option<u16>) -> Aim {
        let (word, at, path) = match probe {
            Probe::Exec(words) => return Aim::Words(["exec"].into_iter().chain(words).map(str::to_owned).collect()),
            Probe::Http { at, path } => ("http", at, Some(path)),
            Probe::Tcp { at } => ("tcp", at, None),
        };
        let given: Option<SocketAddr> = at.parse().ok();
        let port = at.strip_prefix(':').and_then(|port| port.parse().ok());
        let here = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let way = self.slots.way(app, run, given.map(|at| at.port()).or(port));
        let (to, from) = match (given, way) {
            // An address of another machine is what it says.
            (Some(given), Way::To(to, from)) if given.ip() == to.ip() => (given, from),
            (Some(given), Way::To(..) | Way::Deaf(_) | Way::Unknown) => (given, None),
            (None, Way::To(to, from)) => (to, from),
            (None, Way::Deaf(port)) => return Aim::Nowhere(format!("it does not listen at port {port}")),
            (None, Way::Unknown) => match port.or(usual) {
                Some(port) => (here(port), None),
                None => {
                    return Aim::Nowhere("it listens at no port that pm3 knows of; set port in [apps.health]".into());
                }
            },
        };
        let mut words = vec![word.to_owned(), to.to_string()];
        words.extend(path.map(|path| path.to_string()));
        words.extend(from.map(|from| from.to_string()));
        Aim::Words(words)
    }

    /// A child has been reaped; true if it was a probe.
    pub(super) fn probe_ended(&mut self, pid: u32, end: End) -> bool {
        let Some(at) = self.probes.under_way.iter().position(|one| one.pid == pid) else { return false };
        let Looking { run, timeout, killed, vain, output, status, .. } = self.probes.under_way.swap_remove(at);
        if self.probes.under_way.is_empty() {
            self.probes.under_way.shrink_to_fit();
        }
        let finding = match (spawn::outcome(&status), end) {
            _ if vain => return true,
            _ if killed => Finding::Ill(format!("no answer after {} ms", timeout.0).into()),
            (Poll::Ready(Progress::Failed(failure)), _) => Finding::Unknown(failure.to_string().into()),
            (Poll::Ready(_) | Poll::Pending, End::Code(0)) => Finding::Well,
            (Poll::Ready(_) | Poll::Pending, End::Code(1)) => Finding::Ill(line(output)),
            // Somebody has ended it, or the machine is short of memory.
            (Poll::Ready(_) | Poll::Pending, End::Code(_) | End::Signal(_) | End::Unseen) => {
                Finding::Unknown(format!("the probe ended: {end}").into())
            }
        };
        if let Finding::Unknown(why) = &finding {
            warn!("run {}: it cannot be seen whether it is well: {why}", run.0);
        }
        self.happened(Event::Probed { run, finding });
        true
    }
}

fn start(mut plan: Plan) -> Result<(OwnedFd, spawn::Child), Failure> {
    let (output, writer) = fds::pipe().map_err(super::pipes::no_pipe)?;
    (plan.stdout, plan.stderr) = (Stream::Given(writer), Stream::Stdout);
    Ok((output, spawn::spawn(&plan)?))
}

/// The first line of what a probe has said, without what could play with a terminal.
fn line(output: OwnedFd) -> Box<str> {
    let mut bytes = [0; LINE_MAX];
    let count = File::from(output).read(&mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
    let first = text.lines().next().unwrap_or_default();
    let plain: String = first.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if plain.is_empty() { "it does not say why".into() } else { plain.into() }
}
