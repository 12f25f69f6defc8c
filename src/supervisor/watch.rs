//! Restarts because files have changed. Which files count is for the watcher; here is what becomes of the app: what runs is
//! restarted one instance after the other, what has given up or waits to be restarted starts at once, and what an
//! operator stopped stays stopped, and is not watched.

use super::Supervisor;
use super::app::App;
use super::event::{Effect, Millis, Mono, Note, Reason, What};
use super::instance::{Goal, Instance, Next, State};
use super::life::{Life, Phase};
use super::policy;
use super::reload::Manner;
use super::spec::{AppSpec, Watch};

impl Supervisor {
    /// Files of an app have changed, this one among them; the last change was at that moment.
    pub(super) fn files_changed(&mut self, name: &str, path: &str, at: Mono, now: Mono, out: &mut Vec<Effect>) {
        // The app may have been stopped or forgotten since the watcher looked.
        let mut watched = self.apps.iter_mut().filter(|app| app.is_watched());
        let Some(app) = watched.find(|app| *app.spec.name == *name) else { return };
        for one in &mut app.instances {
            one.files_changed(path, at, &app.spec, now, out);
        }
    }

    /// The apps whose files are to be watched.
    pub fn watched(&self) -> impl Iterator<Item = (&AppSpec, &Watch)> {
        let apps = self.apps.iter().filter(|app| app.is_watched());
        apps.filter_map(|app| Some((&app.spec, app.spec.watch.as_deref()?)))
    }
}

impl App {
    /// Its files are watched: somebody asked for that, and not all of it was stopped.
    pub fn is_watched(&self) -> bool {
        self.spec.is_watched() && !self.gone && self.instances.iter().any(|one| one.goal == Goal::Run)
    }

    /// Watches its files from now on, or not any more; returns what there is to say about it.
    pub(super) fn toggle_watch(&mut self) -> String {
        match &mut self.spec.watch {
            Some(watch) => watch.off = !watch.off,
            unset => *unset = Some(Box::default()),
        }
        let now = if self.spec.is_watched() { "is restarted when its files change" } else { "is not watched any more" };
        format!("{}: {now}", self.spec.name)
    }
}

impl AppSpec {
    /// It is to be restarted when its files change.
    pub fn is_watched(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.off)
    }
}

impl Instance {
    fn files_changed(&mut self, path: &str, at: Mono, app: &AppSpec, now: Mono, out: &mut Vec<Effect>) {
        if self.goal != Goal::Run {
            return;
        }
        let reason = Reason::Watched(path.into());
        let newest = |life| self.successor().map_or(life, |second| &second.life);
        match &self.state {
            // A run that began after the last change has seen it. So what an app writes while it stops does not restart it.
            State::Alive(life) if life.is_up_or_coming() && newest(life).ordered < at => {
                self.want_anew(reason, app, now);
            }
            // Nothing about another app has changed.
            State::Errored { .. } if self.is_held_by_another() => {}
            State::Alive(Life { phase: Phase::Clearing { next: Next::Judge { .. }, .. }, .. })
            | State::Errored { .. }
            | State::Finished { .. }
            | State::Backoff { .. }
            | State::Settling { .. } => {
                self.start();
                let what = What::Restarting { reason, after: Millis::ZERO };
                out.push(Effect::Note(Note { who: self.who(app), id: Some(self.id), what }));
            }
            State::Alive(_) | State::Waiting { .. } | State::Stopped => {}
        }
    }

    /// A new run for changed files. One that is about to come anyway sees the change, and comes in the way that was asked
    /// for; and a reload that is under way ends nothing that works: another follows it.
    fn want_anew(&mut self, reason: Reason, app: &AppSpec, now: Mono) {
        if let Some(roll) = &mut self.roll {
            // It comes to be, whatever becomes of who asked for it first.
            if roll.reason != Reason::Changed {
                roll.reason = reason;
            }
            return;
        }
        let reloads = self.successor().is_some() && policy::bars_overlap(app).is_none();
        let manner = if reloads { Manner::NewFirst } else { policy::manner(app, &reason, self.listens()) };
        self.mark(reason, manner, app, now);
    }
}
