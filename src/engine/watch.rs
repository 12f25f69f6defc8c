//! What init has to do with watching: it tells the watcher which apps are watched, each time that this changes.

use log::warn;

use super::Engine;
use super::launch;
use super::roles::Role;
use crate::control::role::{Tell, UNREAD_MAX, Watched};
use crate::supervisor::spec::{AppSpec, Settings, Watch};

/// Bytes that a list of watched apps may have, roughly: a role is replaced when it is told more than it may be behind.
const LIST_MAX: usize = UNREAD_MAX / 2;

/// Bytes that JSON adds to an app's own texts, and to each of them.
const FRAME: usize = 128;
const QUOTES: usize = 8;

impl Engine {
    /// Compares what is to be watched with what the watcher knows. The first app that is watched brings the watcher up;
    /// when there is none any more it stays, asleep.
    pub(super) fn mind_watched(&mut self) {
        if self.supervisor.is_ending() {
            return;
        }
        let settings = self.supervisor.settings();
        let (mut left, mut apps, mut beyond) = (LIST_MAX, Vec::new(), None);
        for (app, watch) in self.supervisor.watched() {
            let app = watched(app, watch, settings);
            match left.checked_sub(size(&app)) {
                Some(less) if beyond.is_none() => (left, _) = (less, apps.push(app)),
                Some(_) | None => beyond = beyond.or(Some(app.name)),
            }
        }
        if apps == self.watched {
            return;
        }
        if let Some(name) = beyond {
            warn!("{name}: is not watched, nor are those after it: there are too many paths and patterns");
        }
        self.watched = apps;
        if !self.watched.is_empty() {
            self.want(Role::Watcher);
        }
        self.brief_watcher();
    }

    /// Tells the watcher all that it has to know.
    pub(super) fn brief_watcher(&mut self) {
        let apps = self.watched.clone();
        self.tell(Role::Watcher, &Tell::Watch { apps }, None);
    }
}

fn watched(app: &AppSpec, watch: &Watch, settings: &Settings) -> Watched {
    let output = &app.launch.output;
    Watched {
        name: app.name.clone(),
        cwd: launch::directory(app, settings).to_string_lossy().into(),
        paths: watch.paths.clone(),
        ignore: watch.ignore.clone(),
        delay: watch.delay,
        logs: [&output.out, &output.err, &output.both, &settings.log_dir].into_iter().flatten().cloned().collect(),
    }
}

fn size(app: &Watched) -> usize {
    let texts = app.paths.iter().chain(&app.ignore).chain(&app.logs);
    FRAME + app.name.len() + app.cwd.len() + texts.map(|text| text.len() + QUOTES).sum::<usize>()
}
