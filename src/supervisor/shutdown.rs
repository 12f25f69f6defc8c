//! How pm3 ends: who decides, in which order the apps go, with which code. One budget holds for all of it.
//!
//! First the apps in reverse order of dependence, each with its own signal and grace; then whatever is left in any
//! session (the sweep); then the exit. When the budget is over, everything gets SIGKILL at once.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Effect, End, Mono, Reason, Sig};
use super::instance::{Goal, Instance, State};
use super::life::Life;
use super::spec::{AppSpec, ExitPolicy};

/// Grace for processes that no app owns. They have no settings of their own, and the apps are gone already.
const SWEEP_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// After SIGKILL only the kernel can keep a process. Waiting longer than this for it would make the platform kill
/// pm3 before it can give its exit code.
const KILL_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// That many stop signals from a terminal mean that the person wants it to be over now.
const INSISTING: u8 = 3;

/// pm3 on its way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// The code of the app that decided; None: pm3 was asked to stop.
    decided: Option<u8>,
    reason: Box<str>,
    budget_end: Mono,
    /// Stop signals so far.
    signals: u8,
    over_budget: bool,
    sweep: Option<Sweep>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sweep {
    Asked { until: Mono },
    Killed { until: Mono },
}

impl Ending {
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.sweep {
            Some(Sweep::Asked { until }) => Some(until.min(self.budget_end)),
            Some(Sweep::Killed { until }) => Some(until),
            None => (!self.over_budget).then_some(self.budget_end),
        }
    }
}

impl Supervisor {
    /// When all that stopping may take is over; None: pm3 is not stopping.
    pub fn budget_end(&self) -> Option<Mono> {
        self.ending.as_ref().map(|ending| ending.budget_end)
    }

    /// A signal that asks pm3 to stop. The second drops the order among the apps; a person who insists gets SIGKILL.
    /// Platforms repeat TERM (Heroku does), so TERM alone never shortens anybody's grace.
    pub(super) fn stop_signal(&mut self, sig: Sig, now: Mono, out: &mut Vec<Effect>) {
        let Some(ending) = &mut self.ending else {
            return self.begin_ending(None, &sig.to_string(), now, out);
        };
        ending.signals = ending.signals.saturating_add(1);
        match ending.signals {
            2 => Supervisor::tell(&format!("{sig} again, signalling all apps at once"), out),
            count if count >= INSISTING && matches!(sig, Sig::INT | Sig::QUIT) => ending.budget_end = now,
            _ => {}
        }
    }

    /// The code and the reason, if an app has decided that pm3 ends.
    pub(super) fn decided(&self) -> Option<(u8, String)> {
        for app in &self.apps {
            let final_codes: Option<Vec<u8>> = app.serving().map(final_code).collect();
            if app.spec.main
                && app.spec.cron.is_none()
                && let Some(codes) = final_codes.filter(|codes| !codes.is_empty())
            {
                let code = codes.into_iter().find(|code| *code != 0).unwrap_or(0);
                return Some((code, format!("{}, the main app, ended with {code}", app.spec.name)));
            }
            let errored = app.serving().find_map(errored_code);
            if let (true, Some((code, _))) = (app.spec.exit_on_error, errored) {
                return Some((code, format!("{} is errored, its code is {code}", app.spec.name)));
            }
        }
        None
    }

    /// The code and the reason, if pm3 ends because nothing is left to do.
    pub(super) fn done(&self) -> Option<(u8, String)> {
        if self.settings.exit == ExitPolicy::Never || self.last_run.0 == 0 || !self.nothing_left() {
            return None;
        }
        let errors = self.apps.iter().flat_map(|app| app.serving().filter_map(move |one| errored_in(app, one)));
        Some(match errors.min_by_key(|(at, held, _, _)| (*held, *at)) {
            Some((_, _, code, name)) => (code, format!("nothing is left to run, {name} was the first to fail")),
            None => (0, "nothing is left to run".to_owned()),
        })
    }

    /// Whose failure pm3 ends with, or would: the main app's, or the first.
    pub fn at_fault(&self) -> Option<(&AppSpec, &Instance)> {
        let all = || self.apps.iter().flat_map(|app| app.serving().map(move |one| (&app.spec, one)));
        let main = all().find(|(app, one)| app.main && final_code(one).is_some_and(|code| code != 0));
        let errored = all().filter_map(|of| errored_code(of.1).map(|(_, at)| (of.1.is_held_by_another(), at, of)));
        main.or_else(|| errored.min_by_key(|(held, at, _)| (*held, *at)).map(|(.., of)| of))
    }

    /// Nothing runs, nothing will by itself, and no operator keeps something stopped to start it again. Who deletes the
    /// last app may have another in mind.
    fn nothing_left(&self) -> bool {
        !self.apps.is_empty()
            && self.apps.iter().all(|app| {
                app.spec.cron.is_none()
                    && app.instances.iter().all(|one| match one.goal {
                        Goal::Stop if !one.spare => false,
                        Goal::Stop | Goal::Run | Goal::Idle | Goal::Remove => one.is_over(),
                    })
            })
    }

    pub(super) fn begin_ending(&mut self, decided: Option<u8>, reason: &str, now: Mono, out: &mut Vec<Effect>) {
        Supervisor::tell(&format!("stopping: {reason}"), out);
        self.sample_at = None;
        for app in &mut self.apps {
            (app.cron_at, app.hold) = (None, None);
            for one in &mut app.instances {
                (one.roll, one.rolling) = (None, false);
                one.forgive();
                if one.goal == Goal::Run {
                    one.goal = Goal::Idle;
                }
            }
        }
        // Nobody takes over any more; the old runs serve those who need them until their turn comes.
        self.each(now, out, |one, app, turn| one.stop_second(Reason::Shutdown, false, app, turn));
        let budget_end = now.after(self.settings.stop_budget.span());
        let reason = reason.into();
        self.ending = Some(Ending { decided, reason, budget_end, signals: 1, over_budget: false, sweep: None });
    }

    /// Moves the ending on; true if anything changed.
    pub(super) fn end(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        let Some(mut ending) = self.ending.take() else { return false };
        let before = ending.clone();
        let mut changed = self.end_apps(&ending, now, out);
        if ending.sweep.is_none() && ending.budget_end <= now && self.has_processes() {
            ending.over_budget = true;
            changed = true;
            Supervisor::tell("the stop budget is over, killing what is left", out);
            self.each(now, out, |one, app, turn| one.kill(app, turn));
            out.push(Effect::Sweep { sig: Sig::KILL });
            ending.sweep = Some(Sweep::Killed { until: now.after(KILL_WAIT) });
        }
        match ending.sweep {
            None if !self.has_processes() => {
                out.push(Effect::Sweep { sig: Sig::TERM });
                ending.sweep = Some(Sweep::Asked { until: now.after(SWEEP_GRACE) });
            }
            Some(Sweep::Asked { until }) if until.min(ending.budget_end) <= now => {
                out.push(Effect::Sweep { sig: Sig::KILL });
                ending.sweep = Some(Sweep::Killed { until: now.after(KILL_WAIT) });
            }
            Some(Sweep::Killed { until }) if until <= now => {
                Supervisor::tell("some processes cannot be killed, leaving them to the kernel", out);
                self.exit(&ending, now, out);
            }
            None | Some(Sweep::Asked { .. } | Sweep::Killed { .. }) => {}
        }
        changed |= before != ending;
        self.ending = Some(ending);
        changed && !self.ended
    }

    /// Signals those whose turn it is to stop.
    fn end_apps(&mut self, ending: &Ending, now: Mono, out: &mut Vec<Effect>) -> bool {
        let needed = if ending.signals > 1 { Vec::new() } else { self.needed() };
        let mut needed = needed.into_iter();
        let mut changed = false;
        self.each_app(now, out, |app, turn| {
            let free = !needed.next().unwrap_or(false);
            for one in &mut app.instances {
                if one.is_between_runs() || free && one.life().is_some_and(Life::is_unsignalled) {
                    one.stop(Reason::Shutdown, false, &app.spec, turn);
                    changed = true;
                }
            }
        });
        changed
    }

    /// The last child is gone while the sweep waits for it.
    pub(super) fn childless(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if let Some(ending) = self.ending.take() {
            if ending.sweep.is_some() && !self.has_processes() {
                self.exit(&ending, now, out);
            }
            self.ending = Some(ending);
        }
    }

    fn exit(&mut self, ending: &Ending, now: Mono, out: &mut Vec<Effect>) {
        self.answer_all(now, out);
        self.ended = true;
        let code = ending.decided.unwrap_or_else(|| self.requested_code(ending.over_budget));
        out.push(Effect::Exit { code, reason: ending.reason.clone() });
    }

    /// Asked to stop: main's code, else 0, else 137 if somebody had to be killed because the budget was over.
    fn requested_code(&self, over_budget: bool) -> u8 {
        match self.apps.iter().find(|app| app.spec.main && !app.gone) {
            Some(main) => {
                let kept = main.serving().filter(|one| one.goal != Goal::Remove);
                let mut codes = kept.filter_map(|one| one.last_end).map(End::exit_code);
                codes.find(|code| *code != 0).unwrap_or(0)
            }
            None if over_budget => End::Signal(Sig::KILL).exit_code(),
            None => 0,
        }
    }
}

/// The code of an instance that is over by itself.
fn final_code(one: &Instance) -> Option<u8> {
    match one.state {
        State::Errored { code, .. } | State::Finished { code } => Some(code),
        State::Waiting { .. } | State::Alive(_) | State::Settling { .. } | State::Backoff { .. } | State::Stopped => {
            None
        }
    }
}

fn errored_code(one: &Instance) -> Option<(u8, Mono)> {
    if let State::Errored { code, at } = one.state { Some((code, at)) } else { None }
}

fn errored_in<'a>(app: &'a super::app::App, one: &Instance) -> Option<(Mono, bool, u8, &'a str)> {
    errored_code(one).map(|(code, at)| (at, one.is_held_by_another(), code, &*app.spec.name))
}
