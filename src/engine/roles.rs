//! The roles: helper processes that init starts of its own program, because it must not do itself what they do. This
//! page is all that a module of init has to know to have one.
//!
//! - [`Engine::want`] says that a role is needed from now on; it is started, and started again whenever it ends, with a
//!   growing wait where it does not last. An init that nobody asks for one has none, and pays nothing.
//! - [`Engine::brief`] is called when a role has just been started, and knows nothing: tell it there all that holds. What
//!   changes later is told by [`Engine::tell`]; while the role is away that does nothing, as the brief will say it.
//! - What a role asks arrives as any client's request, with the right that stands in [`Role::right`].
//! - A role is no app and no leftover: it is not listed, not swept, and does not keep pm3 alive. It is in a session of its
//!   own and ignores what everybody gets. At the end [`Engine::finish_roles`] tells each to finish, and waits for it
//!   as long as it says that it gets on, within the stop budget: one that is stuck, or stopped, costs no more than a
//!   moment. Then it is killed; the exit code is the same.
//!
//! The other end of the line is [`crate::roles`]. Without `/proc` there is no program to start, and so there are no roles:
//! see [`Engine::can_have_roles`].

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};

use super::Engine;
use crate::control::codec;
use crate::control::role::Tell;
use crate::supervisor::event::{ClientId, Failure, Millis, Mono, Sig};
use crate::supervisor::policy;
use crate::supervisor::spec::Right;
use crate::sys::signals::{self, Inherited};
use crate::sys::spawn::{self, Plan, Signals, Stdin};
use crate::sys::{again, clock, errno, kill, place};

/// What a role that finishes may take beyond the stop budget, when that has been used up by the apps.
const FINISH_LEAST: Duration = Duration::from_millis(300);

/// For how long a role that finishes may be silent: it asks something as long as it gets on. More than the logger waits
/// for a place that takes nothing, so that what is lost there is still told.
const FINISH_SILENT: Duration = Duration::from_millis(1_500);

/// Signals that reach every process of a container, a dyno or a terminal, or that somebody sends by mistake: init ends
/// its roles. And what the kernel sends to who writes where it cannot: an error is enough.
const IGNORED: [Sig; 8] = [Sig::TERM, Sig::INT, Sig::HUP, Sig::QUIT, Sig::USR1, Sig::USR2, Sig::PIPE, Sig::XFSZ];

/// Which roles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Moves the output of apps.
    Logger,
    /// Sees that files of apps change.
    Watcher,
}

impl Role {
    /// The word of the command line that makes a pm3 this role.
    fn word(self) -> &'static str {
        match self {
            Role::Logger => "logger",
            Role::Watcher => "watcher",
        }
    }

    /// What it may ask of init.
    fn right(self) -> Right {
        match self {
            Role::Logger => Right::View,
            Role::Watcher => Right::Operate,
        }
    }
}

#[derive(Debug)]
enum State {
    Up {
        pid: u32,
        line: ClientId,
        since: Mono,
        /// Tells why its program did not start, if it did not.
        status: OwnedFd,
    },
    /// To be started then.
    Away { until: Mono },
}

/// A role that is wanted.
#[derive(Debug)]
struct Seat {
    role: Role,
    state: State,
    /// The last wait before it was started again.
    wait: Millis,
}

/// The roles that are wanted.
#[derive(Debug, Default)]
pub(super) struct Roles {
    seats: Vec<Seat>,
    /// pm3 ends, and no role is replaced any more.
    finishing: Option<Finishing>,
    /// A role that has just been started is told all that holds.
    briefing: bool,
}

/// How long roles are waited for that finish.
#[derive(Clone, Copy, Debug)]
struct Finishing {
    /// None has more time than this.
    end: Mono,
    /// And none that is silent until then.
    until: Mono,
    /// A logger that had died while there was output to move has been started once more.
    again: bool,
}

impl Roles {
    /// Whether this is the pid of a role.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.seats.iter().any(|seat| matches!(seat.state, State::Up { pid: own, .. } if own == pid))
    }

    /// Whether it is needed.
    pub(super) fn is_wanted(&self, role: Role) -> bool {
        self.seats.iter().any(|seat| seat.role == role)
    }

    /// Whether it can be told something.
    pub(super) fn is_up(&self, role: Role) -> bool {
        self.seats.iter().any(|seat| seat.role == role && matches!(seat.state, State::Up { .. }))
    }

    /// Whether one that has just been started is being told all that holds.
    pub(super) fn is_briefing(&self) -> bool {
        self.briefing
    }

    /// Whether any has a process.
    pub(super) fn any_up(&self) -> bool {
        self.seats.iter().any(|seat| matches!(seat.state, State::Up { .. }))
    }

    /// When there is something to do about them.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let due = self.seats.iter().filter_map(|seat| match seat.state {
            State::Up { .. } => None,
            State::Away { until } => Some(until),
        });
        self.finishing.map(|finishing| finishing.until).or_else(|| due.min())
    }
}

impl Engine {
    /// Whether a role could be started at all.
    pub(super) fn can_have_roles(&self) -> bool {
        self.origin.has_proc
    }

    /// The role is needed from now on.
    pub(super) fn want(&mut self, role: Role) {
        if self.roles.seats.iter().any(|seat| seat.role == role) || !self.can_have_roles() {
            return;
        }
        self.roles.seats.push(Seat { role, state: State::Away { until: clock::now() }, wait: Millis::ZERO });
        self.mind_roles();
    }

    /// Tells a role something, with the descriptors that go with it. A role that does not listen is replaced.
    pub(super) fn tell(&mut self, role: Role, tell: &Tell, fds: Option<Arc<[OwnedFd]>>) {
        let Some(seat) = self.roles.seats.iter().find(|seat| seat.role == role) else { return };
        let State::Up { pid, line, .. } = seat.state else { return };
        debug!("→ {}: {tell:?}", role.word());
        let told = codec::tell_line(tell).is_some_and(|text| self.server.tell(line, &text, fds, self.roles.briefing));
        if !told {
            warn!("the {} does not listen any more, replacing it", role.word());
            kill::process(pid, Sig::KILL);
        }
    }

    /// Starts the roles whose time has come, and ends waiting for those that have not finished.
    pub(super) fn mind_roles(&mut self) {
        let now = clock::now();
        if let Some(finishing) = self.roles.finishing {
            if finishing.until <= now {
                let left = self.roles.seats.iter().filter_map(|seat| match seat.state {
                    State::Up { pid, .. } => Some((seat.role, pid)),
                    State::Away { .. } => None,
                });
                for (role, pid) in left {
                    warn!("the {} has not finished in time, killing it", role.word());
                    kill::process(pid, Sig::KILL);
                }
                // SIGKILL is enough; who cannot be killed is left to the kernel.
                self.roles.finishing = None;
                self.roles.seats.clear();
            }
            return;
        }
        for at in 0..self.roles.seats.len() {
            let Some(seat) = self.roles.seats.get(at) else { return };
            let role = seat.role;
            if !matches!(seat.state, State::Away { until } if until <= now) {
                continue;
            }
            self.seat_role(at, role, now);
        }
    }

    /// Starts a role that is away.
    fn seat_role(&mut self, at: usize, role: Role, now: Mono) {
        let started = self.start_role(role);
        let Some(seat) = self.roles.seats.get_mut(at) else { return };
        match started {
            Ok(up) => {
                seat.state = up;
                self.roles.briefing = true;
                self.brief(role);
                self.roles.briefing = false;
            }
            Err(why) => {
                warn!("cannot start the {}: {why}", role.word());
                seat.wait = policy::of_role(seat.wait, Duration::ZERO);
                seat.state = State::Away { until: now.after(seat.wait.span()) };
            }
        }
    }

    fn start_role(&mut self, role: Role) -> Result<State, String> {
        let io = |error: std::io::Error| errno::why(errno::of(&error)).into_string();
        let word = |failure: Failure| failure.to_string();
        let (ours, theirs) = UnixStream::pair().map_err(io)?;
        ours.set_nonblocking(true).map_err(io)?;
        let ignored = Inherited { mask: 0, ignored: signals::set_of(&IGNORED) };
        let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let plan = Plan {
            argv: vec![text("pm3")?, text(role.word())?],
            candidates: vec![again::SELF.to_owned()],
            env: place::environment(),
            stdin: Stdin::Given(theirs.into()),
            signals: Signals::Inherit(ignored),
            ..Plan::default()
        };
        let child = spawn::spawn(&plan).map_err(word)?;
        drop(plan);
        let stream = mio::net::UnixStream::from_std(ours);
        // Without its line it ends by itself.
        let line = self.server.adopt(stream, role.right(), self.poll.registry()).map_err(io)?;
        debug!("{} started, pid {}", role.word(), child.pid);
        Ok(State::Up { pid: child.pid, line, since: clock::now(), status: child.status })
    }

    /// A child has been reaped; true if it was a role.
    pub(super) fn role_ended(&mut self, pid: u32, end: crate::supervisor::event::End) -> bool {
        self.hear_out(pid);
        let ours = |seat: &&mut Seat| matches!(seat.state, State::Up { pid: own, .. } if own == pid);
        let Some(seat) = self.roles.seats.iter_mut().find(ours) else { return false };
        let now = clock::now();
        let before = std::mem::replace(&mut seat.state, State::Away { until: now });
        if let State::Up { line, since, status, .. } = before {
            self.server.dismiss_role(line, self.poll.registry());
            if self.roles.finishing.is_none() {
                seat.wait = policy::of_role(seat.wait, now.since(since));
                seat.state = State::Away { until: now.after(seat.wait.span()) };
                match spawn::outcome(&status) {
                    std::task::Poll::Ready(spawn::Progress::Failed(failure)) => {
                        warn!("the {}: {failure}", seat.role.word())
                    }
                    std::task::Poll::Ready(spawn::Progress::Executed | spawn::Progress::Intercepted(_))
                    | std::task::Poll::Pending => {
                        warn!("the {} ended ({end}), replacing it", seat.role.word());
                    }
                }
            }
        }
        if self.roles.finishing.is_some() {
            self.finish_once_more(now);
            if !self.roles.any_up() {
                self.roles.finishing = None;
                self.roles.seats.clear();
            }
        }
        true
    }

    /// A role that has ended may have told something before, which counts.
    fn hear_out(&mut self, pid: u32) {
        let line = self.roles.seats.iter().find_map(|seat| match seat.state {
            State::Up { pid: own, line, .. } if own == pid => Some(line),
            State::Up { .. } | State::Away { .. } => None,
        });
        let mut last = Vec::new();
        line.into_iter().for_each(|line| self.server.hear_out(line, self.poll.registry(), &mut last));
        last.into_iter().for_each(|request| self.serve(request));
    }

    /// A role has ended while pm3 ends. A logger that died instead of finishing leaves what is in the pipes to another.
    fn finish_once_more(&mut self, now: Mono) {
        let away = |seat: &Seat| seat.role == Role::Logger && matches!(seat.state, State::Away { .. });
        let Some(at) = self.roles.seats.iter().position(away) else { return };
        let Some(finishing) = self.roles.finishing.as_mut().filter(|finishing| !finishing.again) else { return };
        if self.pipes.unread().0 == 0 {
            return;
        }
        finishing.again = true;
        self.seat_role(at, Role::Logger, now);
        self.tell(Role::Logger, &Tell::Finish, None);
    }

    /// A role has asked something.
    pub(super) fn role_gets_on(&mut self) {
        if let Some(finishing) = &mut self.roles.finishing {
            finishing.until = clock::now().after(FINISH_SILENT).min(finishing.end);
        }
    }

    /// The apps are gone, and pm3 is about to end: the roles do what is left to do.
    pub(super) fn finish_roles(&mut self) {
        // There may be something left to do for one that happens to be away.
        let now = clock::now();
        for seat in &mut self.roles.seats {
            if let State::Away { until } = &mut seat.state {
                *until = now;
            }
        }
        self.mind_roles();
        if !self.roles.any_up() {
            self.roles.seats.clear();
            return;
        }
        let (now, least) = (clock::now(), clock::now().after(FINISH_LEAST));
        let end = self.supervisor.budget_end().map_or(least, |end| end.max(least));
        self.roles.finishing = Some(Finishing { end, until: now.after(FINISH_SILENT).min(end), again: false });
        for role in self.roles.seats.iter().map(|seat| seat.role).collect::<Vec<_>>() {
            self.tell(role, &Tell::Finish, None);
        }
    }

    /// Whether every role has ended, or has been given up.
    pub(super) fn roles_are_gone(&self) -> bool {
        self.roles.finishing.is_none() && !self.roles.any_up()
    }

    /// Tells a role that knows nothing all that holds.
    fn brief(&mut self, role: Role) {
        match role {
            Role::Logger => self.brief_logger(),
            Role::Watcher => self.brief_watcher(),
        }
    }
}
