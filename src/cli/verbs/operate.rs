//! `pm3 stop`, `restart`, `reload`, `delete`, `reset`: something is done with apps that are named, or that a file holds. With a file, `restart` and `reload` bring what the file says now, and
//! start what is missing; with options, they change the apps that are named.

use crate::cli::ask::{self, Context, exit_of};
use crate::cli::options::Options;
use crate::cli::plan::{self, Part, Plan};
use crate::cli::targets::{self, Target};
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, Report};
use crate::config::{self, Facts};
use crate::control::client::Client;
use crate::control::{Environ, Request};
use crate::supervisor::event::{Amount, Care, Rollout, Verb};
use crate::supervisor::spec::AppSpec;

/// Stop apps; they stay in the list
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 stop web\n  pm3 stop all\n  pm3 stop ecosystem.config.js --only web,worker")]
pub(in crate::cli) struct Stop {
    #[command(flatten)]
    of: Targets,
}

/// Stop apps and take them off the list
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pm3 delete web\n  pm3 delete '/^test-/'")]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    of: Targets,
}

/// Set the counters of restarts to zero
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 reset all")]
pub(in crate::cli) struct Reset {
    #[command(flatten)]
    of: Targets,
}

/// Stop and start apps
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 restart web\n  pm3 restart ecosystem.config.js --env prod\n  pm3 restart web --max-memory-restart 30M"
)]
pub(in crate::cli) struct Restart {
    #[command(flatten)]
    pub(super) again: Again,
}

/// Restart apps so that a new process is online before the old one ends, where both can be at once
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 reload web\n  pm3 reload all --update-env\n  pm3 reload web --rollback\n  pm3 reload ecosystem.config.js --canary 5%\n  pm3 reload web --promote"
)]
pub(in crate::cli) struct Reload {
    #[command(flatten)]
    pub(super) again: Again,
    #[command(flatten)]
    held: Held,
}

/// New processes that are kept beside the old ones until it is decided about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(multiple = false)]
struct Held {
    /// Take all of an app's new processes back if one of them fails: the old ones are kept until all are ready
    #[arg(long)]
    rollback: bool,

    /// Give this share of new connections to new processes beside the old ones, in as many instances, and hold there; a
    /// plain number: so many instances
    #[arg(long, value_name = "SHARE", value_parser = amount)]
    canary: Option<Amount>,

    /// Go on with what --canary holds: it takes over, and the other instances follow
    #[arg(long)]
    promote: bool,

    /// Take back what --canary holds: the old processes go on
    #[arg(long)]
    abort: bool,
}

impl Held {
    fn care(&self) -> Option<Care> {
        self.canary.map(Care::Canary).or(self.rollback.then_some(Care::Rollback))
    }

    /// What is to be done with what is held.
    fn decision(&self) -> Option<Verb> {
        self.promote.then_some(Verb::Promote).or(self.abort.then_some(Verb::Abort))
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    config::amount(text).ok_or_else(|| "expected a percentage, as 5%, or a number of instances, from 1 on".to_owned())
}

/// What gets new processes, and what is to be different about them.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Again {
    #[command(flatten)]
    of: Targets,
    #[command(flatten)]
    change: Change,

    /// As in PM2; pm3 has no lock that could be in the way
    #[arg(short, long, hide = true)]
    force: bool,
}

impl Again {
    pub(super) fn options_mut(&mut self) -> &mut Options {
        &mut self.change.options
    }
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Targets {
    /// Names, namespaces or ids of apps, all, /REGEX/, files of apps, or - for JSON on stdin
    #[arg(required = true, value_name = "TARGET", value_hint = clap::ValueHint::FilePath, allow_negative_numbers = true)]
    targets: Vec<String>,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    show: Show,
}

/// What `restart` and `reload` may change at the same time.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Change {
    /// Give apps that are there the environment of this shell
    #[arg(short = 'a', long)]
    pub(super) update_env: bool,

    /// So many instances of an app at once, in place of its max_surge and max_unavailable; apps never wait for each other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    parallel: Option<u32>,

    /// What `reload` does so that it can be taken back.
    #[arg(skip)]
    care: Option<Care>,

    /// Variables of this shell that the apps do not get: whose names begin so; several with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    filter_env: Vec<String>,

    #[command(flatten)]
    pub(super) options: Options,

    /// Arguments of the app, in place of those that it has
    #[arg(last = true, value_name = "ARG")]
    pub(super) args: Vec<String>,
}

impl Change {
    /// The environment that new apps get.
    pub(super) fn environ(&self, facts: &Facts) -> Environ {
        plan::environ(facts, &self.filter_env)
    }

    /// The environment that apps get which are there.
    pub(super) fn renewal(&self, facts: &Facts) -> Option<Environ> {
        self.update_env.then(|| self.environ(facts))
    }

    /// The names of this shell's variables that the apps do not get.
    pub(super) fn hidden<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = &'a str> {
        let names = facts.env.iter().map(|(name, _)| name.as_str());
        names.filter(|name| plan::is_hidden(name, &self.filter_env))
    }

    /// How new processes follow old ones.
    pub(super) fn how(&self) -> Rollout {
        Rollout { parallel: self.parallel, care: self.care }
    }

    /// Nothing of what the apps are is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        self.options.given.is_empty() && self.args.is_empty()
    }
}

pub(super) fn stop(args: &Stop, context: &Context) -> Report {
    operate(Verb::Stop, &args.of, context)
}

pub(super) fn delete(args: &Delete, context: &Context) -> Report {
    operate(Verb::Delete, &args.of, context)
}

pub(super) fn reset(args: &Reset, context: &Context) -> Report {
    operate(Verb::Reset, &args.of, context)
}

pub(super) fn restart(args: &Restart, context: &Context) -> Report {
    change(Verb::Restart, &args.again, context)
}

pub(super) fn reload(args: &Reload, context: &Context) -> Report {
    if let Some(verb) = args.held.decision() {
        return decide(verb, &args.again, context);
    }
    let mut again = args.again.clone();
    again.change.care = args.held.care();
    change(Verb::Reload, &again, context)
}

/// Does something with apps that are there. Of a file the names alone count, so what else is in it is not looked at.
pub(super) fn operate(verb: Verb, of: &Targets, context: &Context) -> Report {
    context.ask(|client| {
        let mut telling = Telling::new(client.list()?, &of.show);
        let facts = ask::facts();
        let mut words: Vec<String> = Vec::new();
        let mut has_file = false;
        for word in &of.targets {
            match Target::of(word, telling.rows()) {
                Target::Word(word) => words.push(word.to_owned()),
                file @ (Target::File(_) | Target::Stdin) => {
                    has_file = true;
                    match plan::names_of_file(&file, &of.part, &facts) {
                        Ok(plan) => {
                            plan.missing.iter().for_each(|why| telling.fail(Exit::Failed, why));
                            words.extend(plan.apps.iter().map(|app| app.name.to_string()));
                        }
                        Err((exit, mistakes)) => mistakes.iter().for_each(|why| telling.fail(exit, why)),
                    }
                }
            }
        }
        if let Some(why) = of.part.without_file().filter(|_| !has_file) {
            return Ok(Report::failed(Exit::Usage, why));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        send(verb, &words, None, Rollout::default(), client, &mut telling);
        Ok(telling.with_table(client, context))
    })
}

/// Sends a request for apps by their names, and says what came of it.
pub(super) fn send(
    verb: Verb,
    words: &[&str],
    environ: Option<Environ>,
    how: Rollout,
    client: &mut Client,
    telling: &mut Telling,
) {
    let mut failed = Vec::new();
    let targets = targets::for_supervisor(words.iter().copied(), telling.rows(), &mut failed);
    for word in words {
        announce(verb, word, telling);
    }
    failed.iter().for_each(|why| telling.fail(Exit::Failed, why));
    if !targets.is_empty() {
        telling.ask_of(words, client, |client| client.change(&Request::Operate { verb, targets, environ, how }));
    }
}

/// PM2's line before it does something.
fn announce(verb: Verb, word: &str, telling: &mut Telling) {
    let ids: Vec<String> =
        targets::resolve(word, telling.rows()).unwrap_or_default().iter().map(|row| row.id.to_string()).collect();
    if !ids.is_empty() {
        telling.say(format_args!("Applying action {} on app [{word}](ids: [ {} ])", name_of(verb), ids.join(", ")));
    }
}

/// A verb as it is typed.
fn name_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Restart => "restart",
        Verb::Reload => "reload",
        Verb::Delete => "delete",
        Verb::Reset => "reset",
        Verb::Watch => "watch",
        Verb::Promote => "promote",
        Verb::Abort => "abort",
    }
}

/// Restarts or reloads: named apps as they are or with options over what they are, and the apps of files.
fn change(verb: Verb, again: &Again, context: &Context) -> Report {
    context.ask(|client| Ok(changed(verb, again, client, context)))
}

/// Does what was decided about held processes. There is nothing to change about them.
fn decide(verb: Verb, again: &Again, context: &Context) -> Report {
    if !again.change.is_empty() || again.change.update_env {
        let option = format!("--{}", name_of(verb));
        return Report::failed(
            Exit::Usage,
            format_args!("{option}: what is held stays as it was started; no other options"),
        );
    }
    operate(verb, &again.of, context)
}

fn changed(verb: Verb, again: &Again, client: &mut Client, context: &Context) -> Report {
    let Again { of, change, force: _ } = again;
    let mut telling = match client.list() {
        Ok(rows) => Telling::new(rows, &of.show),
        Err(error) => return Report::failed(exit_of(&error), error),
    };
    let facts = ask::facts();
    plan::notes(&change.options, &facts).for_each(|line| telling.warn(line));
    let (mut words, mut files) = (Vec::new(), Vec::new());
    for word in &of.targets {
        match Target::of(word, telling.rows()) {
            Target::Word(word) => words.push(word),
            file @ (Target::File(_) | Target::Stdin) => files.push(file),
        }
    }
    if let Some(why) = of.part.without_file().filter(|_| files.is_empty()) {
        return Report::failed(Exit::Usage, why);
    }
    if change.is_empty() {
        if !change.update_env && words.iter().any(|word| targets::is_known(word, telling.rows())) {
            telling.say("Use --update-env to update environment variables");
        }
        send(verb, &words, change.renewal(&facts), change.how(), client, &mut telling);
    } else if !words.is_empty() {
        reshape(verb, &words, change, &facts, client, &mut telling);
    }
    for file in files {
        match plan::of_file(&file, &of.part, &change.options, &change.args, &facts) {
            Ok(plan) => bring(verb, plan, change, change.update_env, &facts, client, &mut telling),
            Err((exit, mistakes)) => mistakes.iter().for_each(|why| telling.fail(exit, why)),
        }
    }
    telling.warn_of_lost_output(client);
    telling.with_table(client, context)
}

/// Makes it so that the apps of a plan are there, in one request: all of them, or none. `renew`: also those that are there get the environment of this shell.
pub(super) fn bring(
    verb: Verb,
    plan: Plan,
    change: &Change,
    renew: bool,
    facts: &Facts,
    client: &mut Client,
    telling: &mut Telling,
) {
    plan.warnings.iter().for_each(|line| telling.warn(line));
    plan.missing.iter().for_each(|why| telling.fail(Exit::Failed, why));
    let is_known = |app: &&AppSpec| telling.rows().iter().any(|row| row.name == app.name);
    let (known, new): (Vec<&AppSpec>, Vec<&AppSpec>) = plan.apps.iter().partition(is_known);
    if verb != Verb::Start && !new.is_empty() {
        let names: Vec<&str> = new.iter().map(|app| &*app.name).collect();
        telling.warn(format_args!("Applications {} not running, starting...", names.join(", ")));
    }
    for app in known {
        announce(verb, &app.name, telling);
    }
    for app in new {
        let (script, many) = (&app.launch.script, app.instances);
        let plural = if many == 1 { "" } else { "s" };
        telling.say(format_args!("Starting {script} in fork_mode ({many} instance{plural})"));
    }
    let environ = Some(change.environ(facts));
    let request = Request::Apply { verb, apps: plan.apps, environ, renew, how: change.how() };
    telling.ask(client, |client| client.change(&request));
}

/// Gives named apps other settings, which their next runs have.
pub(super) fn reshape(
    verb: Verb,
    words: &[&str],
    change: &Change,
    facts: &Facts,
    client: &mut Client,
    telling: &mut Telling,
) {
    let mut failed = Vec::new();
    let targets = targets::for_supervisor(words.iter().copied(), telling.rows(), &mut failed);
    failed.iter().for_each(|why| telling.fail(Exit::Failed, why));
    if targets.is_empty() {
        return;
    }
    // With the values of variables: what is not changed has to stay.
    let (described, unknown) = match client.describe(targets, true) {
        Ok(found) => found,
        Err(error) => return telling.fail(exit_of(&error), error),
    };
    unknown.iter().for_each(|why| telling.fail(Exit::Failed, why));
    let mut apps = Vec::new();
    let mut renamed = Vec::new();
    for old in described.into_iter().map(|one| one.spec) {
        match plan::overlaid(&old, &change.options, &change.args, facts) {
            Ok(new) if new.name != old.name => renamed.push((old, new)),
            Ok(new) => apps.push(new),
            Err((exit, mistakes)) => mistakes.iter().for_each(|why| telling.fail(exit, why)),
        }
    }
    if telling.has_failed() && apps.is_empty() && renamed.is_empty() {
        return;
    }
    let environ = change.renewal(facts);
    let option = change.options.called("name").unwrap_or_default();
    if renamed.len() > 1 || !renamed.is_empty() && !apps.is_empty() {
        return telling
            .fail(Exit::Usage, format_args!("{option}: several apps are meant, and each needs a name of its own"));
    }
    for (old, new) in renamed {
        if telling.rows().iter().any(|row| row.name == new.name) {
            telling.fail(Exit::Failed, format_args!("{option} {}: another app has that name", new.name));
            continue;
        }
        // The same port or file may be in use, so the one goes before the other comes.
        let name = new.name.clone();
        let gone = telling.ask(client, |client| client.operate(Verb::Delete, vec![old.name.clone()], None));
        if !gone {
            continue;
        }
        if telling.ask(client, |client| client.apply(Verb::Start, vec![new], environ.clone(), change.update_env)) {
            telling.say(format_args!("[{}] is called {name} now", old.name));
        } else {
            telling.ask(client, |client| client.apply(Verb::Start, vec![old], None, false));
        }
    }
    if !apps.is_empty() {
        for app in &apps {
            announce(verb, &app.name, telling);
        }
        let request = Request::Apply { verb, apps, environ, renew: change.update_env, how: change.how() };
        telling.ask(client, |client| client.change(&request));
    }
}
