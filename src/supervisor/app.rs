//! An app and its instances: how many there are, which number each has, and what a changed file means for them.

use serde::{Deserialize, Serialize};

use super::event::{InstanceId, Mono, Reason};
use super::hold::Hold;
use super::instance::{Goal, Instance, State, Turn};
use super::policy;
use super::spec::{AppSpec, Kind};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    pub spec: AppSpec,
    pub instances: Vec<Instance>,
    /// When its schedule comes next; None: no schedule, or not known yet.
    pub cron_at: Option<Mono>,
    /// New runs that are kept beside their old ones until it is decided about all of them.
    pub hold: Option<Box<Hold>>,
    /// Vanished from the file or deleted: every instance is on its way out, and then the app is forgotten.
    pub gone: bool,
    /// Where it came from: the file, when it is read again, speaks for its own apps alone.
    pub origin: Origin,
    /// How many instances its entry asks for, where an operator has said otherwise since. Only an entry that asks for
    /// another number takes that back.
    pub entry_instances: Option<u32>,
}

/// Who brought an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// pm3's own file.
    #[default]
    File,
    Client,
}

impl App {
    pub fn new(spec: AppSpec, origin: Origin) -> App {
        App { spec, origin, ..App::default() }
    }

    /// The goal of an instance that nobody has asked for by name.
    pub fn first_goal(&self) -> Goal {
        if self.spec.autostart { Goal::Run } else { Goal::Idle }
    }

    /// Makes as many instances and spares as the spec asks for, or gives the newest ones up. What is given up is stopped
    /// first and forgotten when it is over. The last one stays whatever the spec says: without it the app would have no row.
    pub fn fit(&mut self, goal: Goal, reason: &Reason, next_id: &mut u32, turn: &mut Turn<'_>) {
        for (spare, wanted) in [(false, self.spec.instances.max(1)), (true, self.spec.spares())] {
            let is_kept = |one: &Instance| one.goal != Goal::Remove && one.spare == spare;
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            let kept = self.instances.iter().filter(|one| is_kept(one)).count();
            // Exactly: most apps have one instance for life, and there may be thousands of apps.
            self.instances.reserve_exact(wanted.saturating_sub(kept));
            // One more of those that listen is online when it listens, too.
            let expected = self.instances.iter().any(|one| one.life().is_some_and(|life| life.listens));
            for _ in kept..wanted {
                let index =
                    (0..).find(|index| self.instances.iter().all(|other| other.index != *index)).unwrap_or(u32::MAX);
                let one = Instance::new(InstanceId(*next_id), index, goal, turn.now);
                self.instances.push(Instance { expected, spare, ..one });
                *next_id = next_id.saturating_add(1);
            }
            for _ in wanted..kept {
                let newest = self.instances.iter_mut().filter(|one| is_kept(one)).max_by_key(|one| one.id);
                if let Some(newest) = newest {
                    newest.goal = Goal::Remove;
                    newest.stop(reason.clone(), self.spec.instances > 0, &self.spec, turn);
                }
            }
        }
    }

    /// An entry for this app as it applies here: the number of instances that an operator chose stays while the entry
    /// asks for the same as before, and the shell's environment is not the entry's affair. What is on its way out for
    /// good leaves nothing to the one that comes after it.
    pub fn adapted(&self, mut entry: AppSpec) -> (AppSpec, Option<u32>) {
        if self.gone {
            return (entry, None);
        }
        entry.launch.shell = self.spec.launch.shell.clone();
        let chosen = self.entry_instances.filter(|asked| *asked == entry.instances);
        if chosen.is_some() {
            entry.instances = self.spec.instances;
        }
        (entry, chosen)
    }

    /// An operator wants so many instances; `fit` makes them.
    pub fn resize(&mut self, count: u32) {
        let entry = self.entry_instances.unwrap_or(self.spec.instances);
        self.entry_instances = (entry != count).then_some(entry);
        self.spec.instances = count;
    }

    /// Somebody wants it to run: it is not scaled to none any more.
    pub fn revive(&mut self) {
        if self.spec.instances == 0 {
            self.resize(1);
        }
    }

    /// Takes over a changed entry of the file. Only a changed launch needs new processes; those come one instance at
    /// a time. What had failed for good is tried again, what an operator stopped stays stopped.
    pub fn change(&mut self, spec: AppSpec, now: Mono) {
        let relaunch = self.spec.launch != spec.launch || self.spec.kind != spec.kind;
        let rescheduled = self.spec.cron != spec.cron;
        let started = spec.autostart && !self.spec.autostart;
        let revived = self.spec.instances == 0 && spec.instances > 0;
        let manner = policy::manner(&spec, &Reason::Changed, false);
        self.spec = spec;
        self.gone = false;
        if rescheduled {
            self.cron_at = None;
        }
        for instance in &mut self.instances {
            if self.spec.health.is_none() {
                instance.forget_ailment();
            }
            match (instance.goal, &instance.state) {
                (Goal::Run, State::Errored { .. }) => instance.start(),
                (Goal::Run, State::Finished { .. }) if relaunch => instance.start(),
                (Goal::Idle, _) if started => instance.start(),
                (Goal::Stop, _) if revived => instance.start(),
                (Goal::Run, _) if relaunch && instance.is_up_or_coming() => {
                    instance.mark(Reason::Changed, manner, &self.spec, now);
                }
                (Goal::Run | Goal::Idle | Goal::Stop | Goal::Remove, _) => {}
            }
        }
    }

    /// Those that are no spares: whether the app is up, or has failed, is seen by them alone.
    pub fn serving(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|one| !one.spare)
    }

    /// What waits for this app need not wait any longer: a service is online, a one-shot finished well.
    pub fn is_up(&self) -> bool {
        let mut kept = self.serving().filter(|instance| instance.goal != Goal::Remove);
        match self.spec.kind {
            Kind::Service => kept.any(Instance::is_online),
            Kind::Oneshot => kept.all(|instance| matches!(instance.state, State::Finished { code: 0 })),
        }
    }

    /// It is not up and will not come up by itself.
    pub fn is_out(&self) -> bool {
        !self.is_up() && self.serving().all(Instance::is_over)
    }

    /// It failed those who require it, for good: some instance is errored and none is up, or a service has ended by
    /// itself. The code is that of the first to fail.
    pub fn failed_code(&self) -> Option<u8> {
        if !self.is_out() {
            return None;
        }
        let errors = self.serving().filter_map(|instance| match instance.state {
            State::Errored { code, at } => Some((at, code)),
            State::Waiting { .. }
            | State::Alive(_)
            | State::Settling { .. }
            | State::Backoff { .. }
            | State::Stopped
            | State::Finished { .. } => None,
        });
        errors.min().map(|(_, code)| code).or_else(|| self.finished_code())
    }

    /// A service that has ended by itself and that no schedule will start again.
    fn finished_code(&self) -> Option<u8> {
        let code = |one: &Instance| if let State::Finished { code } = one.state { Some(code) } else { None };
        let codes: Option<Vec<u8>> = self.serving().map(code).collect();
        let ends = self.spec.kind == Kind::Service && self.spec.cron.is_none();
        codes.filter(|_| ends).map(|codes| codes.into_iter().find(|code| *code != 0).unwrap_or(0))
    }

    /// Some process of it may still be there.
    pub fn has_processes(&self) -> bool {
        self.instances.iter().any(Instance::has_processes)
    }
}
