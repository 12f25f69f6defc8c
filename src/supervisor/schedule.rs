//! What happens by the clock: cron restarts and samples of memory. When a cron expression comes next depends on the
//! time zone, so the engine computes it (`Effect::Schedule`) and this only waits for the moment.

use super::Supervisor;
use super::event::{Effect, Mono, Reason, RunId};
use super::instance::{Goal, Instance, State};
use super::policy;

impl Supervisor {
    /// Asks when each schedule comes next.
    pub(super) fn ask_schedules(&mut self, out: &mut Vec<Effect>) {
        self.apps.iter_mut().for_each(|app| app.cron_at = None);
        self.ask_missing_schedules(out);
    }

    /// Asks for those that are not known yet.
    pub(super) fn ask_missing_schedules(&mut self, out: &mut Vec<Effect>) {
        for app in self.apps.iter().filter(|app| app.cron_at.is_none() && !app.gone) {
            if let Some(cron) = &app.spec.cron {
                out.push(Effect::Schedule { app: app.spec.name.clone(), cron: cron.clone() });
            }
        }
    }

    /// Restarts what is due by its schedule, and starts what is not running. What an operator stopped stays stopped.
    pub(super) fn run_schedules(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        let mut changed = false;
        for app in &mut self.apps {
            let Some(cron) = app.spec.cron.clone() else { continue };
            if app.cron_at.is_none_or(|at| at > now) {
                continue;
            }
            app.cron_at = None;
            out.push(Effect::Schedule { app: app.spec.name.clone(), cron });
            for instance in &mut app.instances {
                match (instance.goal, &instance.state) {
                    (Goal::Stop | Goal::Remove, _) => {}
                    // It follows the others.
                    (Goal::Idle, _) if instance.spare => {}
                    (Goal::Run | Goal::Idle, State::Stopped | State::Errored { .. } | State::Finished { .. }) => {
                        instance.start();
                    }
                    (Goal::Run | Goal::Idle, _) if instance.held().is_some() => {
                        instance.renew_after_hold(Reason::Cron, &app.spec, now);
                    }
                    // Who is about to get a new run is about to have what a schedule is for.
                    (Goal::Run | Goal::Idle, _) if instance.roll.is_some() || instance.second.is_some() => {
                        instance.insist(Reason::Cron);
                    }
                    (Goal::Run | Goal::Idle, _) if instance.is_up_or_coming() => {
                        let manner = policy::manner(&app.spec, &Reason::Cron, instance.listens());
                        instance.mark(Reason::Cron, manner, &app.spec, now);
                    }
                    // It is on its way already.
                    (Goal::Run | Goal::Idle, _) => {}
                }
            }
            changed = true;
        }
        changed
    }

    /// Orders samples while some run has a limit, and only then.
    pub(super) fn order_samples(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let limited = |app: &&super::app::App| app.spec.memory_limit.is_some();
        let runs: Vec<_> = self.apps.iter().filter(limited).flat_map(|app| &app.instances).flat_map(sampled).collect();
        if runs.is_empty() {
            self.sample_at = None;
        } else if self.sample_at.is_none_or(|at| at <= now) {
            // The first sample waits for the first interval: a program that has just started says little.
            if self.sample_at.is_some() {
                out.push(Effect::Sample { runs });
            }
            self.sample_at = Some(now.after(self.settings.sample_interval.span()));
        }
    }
}

/// The instance's run, and one that is held beside it.
fn sampled(instance: &Instance) -> impl Iterator<Item = RunId> {
    let own = instance.run().filter(|_| instance.is_online());
    own.into_iter().chain(instance.held().map(|second| second.life.run))
}
