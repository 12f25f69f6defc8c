//! What apps mean for each other: one name each, one main at most, others that exist, no circles of waiting.

use std::collections::{BTreeMap, BTreeSet};

use super::Wanted;
use super::mistakes::Mistakes;
use super::several::Names;
use crate::supervisor::graph;
use crate::supervisor::near::nearest;
use crate::supervisor::spec::{AppSpec, INSTANCES_MAX};

/// So many names are listed.
const LISTED_MAX: usize = 12;

/// So many names of a circle are shown.
const CIRCLE_MAX: usize = 12;

/// An app with the places that these checks point at, as bytes of the file.
pub(super) struct App<'t> {
    pub(super) spec: AppSpec,
    pub(super) at: usize,
    /// Where it says that it is main, if it does.
    pub(super) main_at: Option<usize>,
    pub(super) after: Names,
    pub(super) requires: Names,
    /// The profiles that it has variables for.
    pub(super) profiles: Vec<&'t str>,
}

/// Checks apps against each other and puts the names of others into their specs.
pub(super) fn join(apps: Vec<App<'_>>, wanted: &Wanted<'_>, found: &mut Mistakes<'_>) -> Vec<AppSpec> {
    let by_name = by_name(&apps, found);
    one_main(&apps, found);
    own_places(&apps, found);
    let instances =
        apps.iter().fold(0u32, |sum, app| sum.saturating_add(app.spec.instances).saturating_add(app.spec.spares()));
    if instances > INSTANCES_MAX {
        found.add(0, format!("{instances} instances of all apps together, more than {INSTANCES_MAX}"));
    }
    if let Some(profile) = wanted.profile {
        profile_is_known(profile, &apps, found);
    }
    let edges = apps.iter().map(|app| edges(app, &by_name, found)).collect();
    circles(&apps, edges, found);
    let names = |names: Names| names.0.into_iter().map(|(name, _)| name).collect();
    let apps = apps.into_iter();
    let apps = apps.map(|app| AppSpec { after: names(app.after), requires: names(app.requires), ..app.spec }).collect();
    let Some(only) = wanted.only else { return apps };
    let (apps, unknown) = pick(apps, only);
    unknown.into_iter().for_each(|why| found.add_at_large(why));
    apps
}

/// The apps that `--only` lists, and a complaint about each name that none of them has. The names are separated by commas
/// or blanks, as PM2 has it.
pub fn pick(apps: Vec<AppSpec>, only: &str) -> (Vec<AppSpec>, Vec<String>) {
    let names: BTreeSet<&str> = only.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return (Vec::new(), vec!["--only: it names no app".into()]);
    }
    let known: BTreeSet<&str> = apps.iter().map(|app| &*app.name).collect();
    let hint = |name| one_of(name, known.iter().copied());
    let unknown = names.difference(&known).map(|name| format!("--only {name}: there is no such app{}", hint(name)));
    let unknown = unknown.collect();
    (apps.into_iter().filter(|app| names.contains(&*app.name)).collect(), unknown)
}

/// What may have been meant, and where that is not plain, what there is.
fn one_of<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(meant) => format!(", did you mean {meant}?"),
        None => {
            let mut list: Vec<&str> = known.take(LISTED_MAX + 1).collect();
            if list.len() > LISTED_MAX {
                list.truncate(LISTED_MAX);
                list.push("…");
            }
            if list.is_empty() { String::new() } else { format!("; there is {}", list.join(", ")) }
        }
    }
}

/// Where each name is in the list.
fn by_name<'a>(apps: &'a [App<'_>], found: &mut Mistakes<'_>) -> BTreeMap<&'a str, usize> {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    // An app whose name is wrong has none here.
    for (index, app) in apps.iter().enumerate().filter(|(_, app)| !app.spec.name.is_empty()) {
        let name = &*app.spec.name;
        match by_name.get(name).and_then(|first| apps.get(*first)) {
            Some(_) if found.are_enough() => break,
            Some(first) => {
                let spot = found.spot(first.at);
                found.add(app.at, format!("{name}: the app at {spot} has this name too"));
            }
            None => drop(by_name.insert(name, index)),
        }
    }
    by_name
}

fn one_main(apps: &[App<'_>], found: &mut Mistakes<'_>) {
    let mut mains = apps.iter().filter_map(|app| Some((&app.spec.name, app.main_at?)));
    if let Some((first, _)) = mains.next() {
        for (name, at) in mains {
            found.add(at, format!("{name}: main = true: {first} is main already, and pm3 ends with one"));
        }
    }
}

/// A socket is handed to one app.
fn own_places(apps: &[App<'_>], found: &mut Mistakes<'_>) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let places = apps.iter().flat_map(|app| app.spec.listen().iter().map(move |place| (app, place)));
    for (app, place) in places {
        if let Some(first) = owners.insert(place, &app.spec.name) {
            found.add(app.at, format!("{}: listen: {place} is what {first} listens at", app.spec.name));
        }
    }
}

fn profile_is_known(profile: &str, apps: &[App<'_>], found: &mut Mistakes<'_>) {
    let mut known: Vec<&str> = apps.iter().flat_map(|app| app.profiles.iter().copied()).collect();
    known.sort_unstable();
    known.dedup();
    if known.contains(&profile) {
        return;
    }
    let hint = match one_of(profile, known.iter().copied()) {
        // The others are few, and as likely.
        near if near.starts_with(',') && known.len() > 1 => format!("{near} there is {}", known.join(", ")),
        hint => hint,
    };
    found.add_at_large(format!("profile {profile}: no app has env_{profile}{hint}"));
}

/// Whom an app waits for, and where that is said.
type Edges = Vec<(usize, usize)>;

fn edges(app: &App<'_>, by_name: &BTreeMap<&str, usize>, found: &mut Mistakes<'_>) -> Edges {
    let mut edges = Vec::new();
    let after = app.after.0.iter().map(|name| ("after", name));
    let requires = app.requires.0.iter().map(|name| ("requires", name));
    for (key, (name, span)) in after.chain(requires) {
        match by_name.get(&**name) {
            Some(index) => edges.push((*index, span.start)),
            None if found.are_enough() => break,
            None => {
                let meant = nearest(name, by_name.keys().copied());
                let hint = meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
                found.add(span.start, format!("{}: {key}: there is no app {name}{hint}", app.spec.name));
            }
        }
    }
    edges
}

/// Each circle, at the place where its first app says whom it waits for. That edge is then taken out, to find the next.
fn circles(apps: &[App<'_>], mut edges: Vec<Edges>, found: &mut Mistakes<'_>) {
    while !found.are_enough() {
        let graph: Vec<Vec<usize>> = edges.iter().map(|to| to.iter().map(|(node, _)| *node).collect()).collect();
        let Some(circle) = graph::cycle(&graph) else { return };
        let Some(first) = circle.first().copied() else { return };
        let next = circle.get(1).copied().unwrap_or(first);
        let Some(out) = edges.get_mut(first) else { return };
        let at = out.iter().find(|(node, _)| *node == next).map_or(0, |(_, at)| *at);
        out.retain(|(node, _)| *node != next);

        let names = circle.iter().filter_map(|node| apps.get(*node)).map(|app| &*app.spec.name);
        let mut way: Vec<&str> = names.take(CIRCLE_MAX).collect();
        let who = way.first().copied().unwrap_or_default();
        if circle.len() > CIRCLE_MAX {
            way.push("…");
        }
        way.push(who);
        let way = way.join(" -> ");
        found.add(at, format!("{who}: waits for itself, so none of these could start: {way}"));
    }
}
