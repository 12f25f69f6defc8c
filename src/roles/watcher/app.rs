//! What is watched for one app, and whether a change counts for it. Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::burst::{Burst, Weight};
use super::ignore::{self, Ignore};
use crate::control::role::Watched;
use crate::supervisor::event::{Millis, Mono};

/// How long nothing may change before a burst is over, where the app does not say. An editor is done sooner, a formatter that
/// it calls mostly too.
const DELAY: Duration = Duration::from_millis(150);

/// A path is shown in a line and in a table: a longer one is cut at its front.
const SHOWN_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct App {
    pub(super) name: Box<str>,
    cwd: PathBuf,
    /// Directories or files, absolute; they need not exist.
    roots: Vec<PathBuf>,
    ignore: Ignore,
    logs: Vec<PathBuf>,
    pub(super) burst: Burst,
}

impl App {
    pub(super) fn new(watched: &Watched) -> App {
        let cwd = ignore::plain(Path::new(&*watched.cwd));
        let under = |path: &str| ignore::plain(&cwd.join(path));
        let mut roots: Vec<PathBuf> = watched.paths.iter().map(|path| under(path)).collect();
        if roots.is_empty() {
            roots.push(cwd.clone());
        }
        App {
            name: watched.name.clone(),
            roots,
            ignore: Ignore::new(watched.ignore.iter().map(|pattern| &**pattern), &cwd),
            logs: watched.logs.iter().map(|path| under(path)).collect(),
            burst: Burst::new(if watched.delay == Millis::ZERO { DELAY } else { watched.delay.span() }),
            cwd,
        }
    }

    /// The paths that were named, for people.
    pub(super) fn place(&self) -> String {
        self.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Whether what happens to `path`, or below it, matters to this app.
    pub(super) fn cares_for(&self, path: &Path) -> bool {
        // Whoever names a directory in another one means it, even if it is ignored seen from there.
        let deepest = self.roots.iter().filter(|root| path.starts_with(root)).max_by_key(|root| root.as_os_str().len());
        deepest.is_some_and(|root| !self.ignore.covers(root, path))
            && !self.logs.iter().any(|log| path.starts_with(log) || ignore::is_log(log, path))
    }

    /// Takes a change of a file in.
    pub(super) fn heed(&mut self, now: Mono, weight: Weight, path: &Path) {
        if self.cares_for(path) {
            let shown = shown(path.strip_prefix(&self.cwd).unwrap_or(path));
            self.burst.add(now, weight, || shown);
        }
    }
}

/// A path as a word of one line.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return ".".to_owned();
    }
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let cut = text.chars().count().saturating_sub(SHOWN_MAX);
    if cut == 0 { text } else { ['…'].into_iter().chain(text.chars().skip(cut)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Box<[Box<str>]> {
        list.iter().map(|text| (*text).into()).collect()
    }

    fn app(paths: &[&str], ignore: &[&str], logs: &[&str]) -> App {
        App::new(&Watched {
            name: "web".into(),
            cwd: "/srv/app".into(),
            paths: texts(paths),
            ignore: texts(ignore),
            logs: texts(logs),
            delay: Millis(100),
        })
    }

    #[test]
    fn the_cwd_is_watched_where_nothing_is_named() {
        let app = app(&[], &["*.tmp"], &["app.log", "/var/log/app.log", "/srv/app/home/logs"]);
        assert_eq!(app.roots(), [Path::new("/srv/app")]);
        for (path, cares) in [
            ("/srv/app/index.js", true),
            ("/srv/app", true),
            ("/srv/app/x/y.js", true),
            ("/srv/app/x.tmp", false),
            ("/srv/app/app.log", false),
            ("/srv/app/app-2.log.1", false),
            ("/srv/app/x/app.log", true),
            ("/srv/app/home/logs", false),
            ("/srv/app/home/logs/web-out.log", false),
            ("/srv/app/home/pm3.toml", true),
            ("/srv/application/a", false),
            ("/srv", false),
        ] {
            assert_eq!(app.cares_for(Path::new(path)), cares, "{path}");
        }
    }

    #[test]
    fn named_paths_are_watched_in_place_of_the_cwd() {
        let app = app(&["src", "../lib/", ".env", "src/.hidden"], &[], &[]);
        for (path, cares) in [
            ("/srv/app/src/a", true),
            ("/srv/lib/a", true),
            ("/srv/app/.env", true),
            ("/srv/app/src/.other/a", false),
            ("/srv/app/src/.hidden/a", true),
            ("/srv/app/index.js", false),
        ] {
            assert_eq!(app.cares_for(Path::new(path)), cares, "{path}");
        }
    }

    #[test]
    fn a_change_is_shown_as_somebody_in_the_cwd_would_write_it() {
        let long = format!("/srv/app/{}/end.js", "x".repeat(300));
        for (path, expected) in [
            ("/srv/app/src/index.js", "src/index.js"),
            ("/srv/app", "."),
            ("/srv/lib/a\nb", "/srv/lib/a?b"),
            (&*long, &*format!("…{}/end.js", "x".repeat(193))),
        ] {
            let mut app = app(&["/srv"], &[], &[]);
            app.heed(Mono(0), Weight::Written, Path::new(path));
            assert_eq!(app.burst.take(Mono(100_000_000)).map(|over| over.path).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_ignored_makes_no_burst() {
        let mut app = app(&[], &[], &["app.log"]);
        for path in ["/srv/app/app.log", "/srv/app/.git/index", "/etc/passwd"] {
            app.heed(Mono(0), Weight::Written, Path::new(path));
        }
        assert_eq!(app.burst.due(), None);
    }
}
