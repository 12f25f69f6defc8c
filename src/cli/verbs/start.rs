//! `pm3 start`: a script, a command line, a file of apps, or apps that are in the list; of these also several. Without a
//! supervisor it starts one in the background, or becomes it (`--no-daemon`).
//!
//! How a word is told: `-` is JSON on stdin; a name that looks like a file of apps (`x.json`, `x.config.js`, …) is one,
//! unless there is no such file and an app has that name; then an app's name, a namespace, an id, `all` or `/regex/` is
//! that; all else is a script in this directory or in `$PATH`, or, with a blank in it, a command line. So where an app and a
//! script have one name the app is meant, and `./name` is the script.
//!
//! All mistakes are found before a supervisor is started or asked for anything.

use std::path::{Path, PathBuf};

use super::operate::{self, Change};
use super::{Performed, logs};
use crate::cli::ask::{self, Context, exit_of};
use crate::cli::background;
use crate::cli::foreground;
use crate::cli::options::Options;
use crate::cli::plan::{self, Part, Plan};
use crate::cli::targets::{Target, resolve};
use crate::cli::telling::{Show, Telling};
use crate::cli::{Exit, InitArgs, Report, tell};
use crate::config::{self, Facts};
use crate::control::Row;
use crate::control::client::{Client, Error};
use crate::supervisor::event::Verb;
use crate::supervisor::near::nearest;
use crate::supervisor::spec::AppSpec;
use crate::sys::signals;

/// Start a script, a command, the apps of a file, or apps that are stopped
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:
  pm3 start index.js --name web -i max
  pm3 start app.py --interpreter python3 -- --port 3000
  pm3 start \"npm run start\" --name shop
  pm3 start ecosystem.config.js --only web,worker --env prod
  pm3 start web worker
  pm3 start                 ecosystem.config.js or another file of apps in this directory")]
pub(in crate::cli) struct Args {
    /// Scripts, commands, files of apps, - for JSON on stdin, or names, namespaces and ids of apps, /REGEX/, all
    #[arg(value_name = "WHAT", value_hint = clap::ValueHint::FilePath)]
    targets: Vec<String>,

    #[command(flatten)]
    part: Part,

    /// Become the supervisor of these apps and stay in the foreground; so as PID 1, and where $DYNO is set
    #[arg(long)]
    no_daemon: bool,

    /// Follow the output of the apps when they are started; ^C leaves them running
    #[arg(long, conflicts_with_all = ["no_daemon", "silent"])]
    attach: bool,

    /// Start another app of the same name, under the next free one
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    change: Change,

    #[command(flatten)]
    show: Show,
}

/// Restart the apps of a file, and start those that are missing
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 startOrRestart ecosystem.config.js --env prod")]
pub(in crate::cli) struct OrRestart {
    #[command(flatten)]
    pub(super) args: Args,
}

/// Reload the apps of a file, and start those that are missing
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 startOrReload ecosystem.config.js")]
pub(in crate::cli) struct OrReload {
    #[command(flatten)]
    pub(super) args: Args,
}

impl Args {
    pub(super) fn options_mut(&mut self) -> &mut Options {
        &mut self.change.options
    }
}

pub(super) fn start(args: &Args, context: &Context) -> Performed {
    begin(Verb::Start, args, context)
}

pub(super) fn or_restart(args: &OrRestart, context: &Context) -> Performed {
    begin(Verb::Restart, &args.args, context)
}

pub(super) fn or_reload(args: &OrReload, context: &Context) -> Performed {
    begin(Verb::Reload, &args.args, context)
}

/// What one word of the command line comes to.
enum Step<'a> {
    /// Apps that are in the list.
    Known(&'a str),
    /// The apps of a file.
    File(Plan),
    /// A script or a command.
    Script(Plan),
}

fn begin(verb: Verb, args: &Args, context: &Context) -> Performed {
    let facts = ask::facts();
    let words = match words(args, &facts) {
        Ok(words) => words,
        Err(why) => return Performed::Said(Report::failed(Exit::Usage, why)),
    };
    let needed = args.no_daemon || foreground::is_needed();
    let found = if foreground::is_needed() { None } else { Some(context.connect()) };
    let mut client = match found {
        None => None,
        Some(Ok(client)) if needed => return Performed::Said(foreground::is_taken(&client)),
        Some(Ok(client)) => Some(client),
        Some(Err(Error::Nobody(_))) => None,
        // Whoever that is, this user's apps are not for it.
        Some(Err(_)) if needed => None,
        Some(Err(error)) => return Performed::Said(Report::failed(exit_of(&error), error)),
    };
    let in_front = needed || client.is_none() && foreground::is_wiser();
    if in_front && let Some(init) = as_init(&words, args, context) {
        return foreground::become_init(init);
    }
    if !in_front {
        signals::unblock();
    }
    let rows = match client.as_mut().map_or(Ok(Vec::new()), Client::list) {
        Ok(rows) => rows,
        Err(error) => return Performed::Said(Report::failed(exit_of(&error), error)),
    };
    let mut telling = Telling::new(rows, &args.show);
    if let Some(why) = args.part.without_file()
        && words.iter().all(|word| matches!(Target::of(word, telling.rows()), Target::Word(_)))
    {
        return Performed::Said(Report::failed(Exit::Usage, why));
    }
    let steps: Vec<Step<'_>> = words.iter().filter_map(|word| step(word, args, &facts, &mut telling)).collect();
    if in_front {
        return in_the_foreground(steps, telling, args, context, &facts);
    }
    if steps.is_empty() {
        return Performed::Said(telling.report());
    }
    let scripts = steps.iter().filter(|step| matches!(step, Step::Script(_))).count();
    if scripts > 1
        && let Some(option) = args.change.options.called("name")
    {
        let why = format_args!("{option}: several scripts, and each needs a name of its own");
        return Performed::Said(Report::failed(Exit::Usage, why));
    }
    let Some(mut client) = client.or_else(|| background::start_one(context, &mut telling)) else {
        return Performed::Said(telling.report());
    };
    for step in steps {
        take(verb, step, args, &facts, &mut client, &mut telling);
    }
    let follows = args.attach && !telling.has_failed();
    let names = telling.names();
    telling.warn_of_lost_output(&client);
    let report = telling.with_table(&mut client, context);
    if follows {
        // What comes then has no end of its own.
        tell(&report);
        return Performed::Said(logs::attach(names, context));
    }
    Performed::Said(report)
}

/// The words to start, or the usual file where there are none; and what options mean nothing with them.
fn words(args: &Args, facts: &Facts) -> Result<Vec<String>, String> {
    let mut words = args.targets.clone();
    if words.is_empty() {
        let usual = config::find_here(facts).and_then(|file| file.into_os_string().into_string().ok());
        let here = facts.start_dir.display();
        words.push(usual.ok_or_else(|| {
            format!("nothing to start: name a script, a command, an app or a file; {here} has no ecosystem.config.js")
        })?);
    }
    Ok(words)
}

/// A file and nothing else is for init to read, and to read again.
fn as_init(words: &[String], args: &Args, context: &Context) -> Option<InitArgs> {
    let [file] = words else { return None };
    let Target::File(file) = Target::of(file, &[]) else { return None };
    args.change.is_empty().then(|| InitArgs {
        file: Some(file.into()),
        env: args.part.env.clone(),
        only: args.part.only.clone(),
        socket: context.socket.clone(),
        ..InitArgs::default()
    })
}

/// What a word comes to, or nothing: then it has been said why.
fn step<'a>(word: &'a str, args: &Args, facts: &Facts, telling: &mut Telling) -> Option<Step<'a>> {
    let Change { options, args: app_args, .. } = &args.change;
    let (planned, as_step): (_, fn(Plan) -> Step<'a>) = match Target::of(word, telling.rows()) {
        Target::Word(word) => match resolve(word, telling.rows()) {
            Ok(found) if !found.is_empty() => return Some(Step::Known(word)),
            Ok(_) if word == "all" => {
                let why = "all: there is no app to start; name a script or a file, or `pm3 resurrect` what was saved";
                telling.fail(Exit::Failed, why);
                return None;
            }
            Ok(_) if word.trim().is_empty() => {
                telling.fail(Exit::Usage, "an empty word names nothing; is a variable of the shell empty?");
                return None;
            }
            Ok(_) if facts.start_dir.join(word).is_dir() => {
                telling
                    .fail(Exit::Failed, format_args!("{word}: a directory and no script; to watch it: --watch={word}"));
                return None;
            }
            Ok(_) if plan::may_be_script(word, options, facts) => {
                (plan::of_script(word, app_args, options, facts), Step::Script)
            }
            Ok(_) => {
                telling.fail(Exit::Failed, nothing_of_that_name(word, telling.rows()));
                return None;
            }
            Err(why) => {
                telling.fail(Exit::Failed, why);
                return None;
            }
        },
        file @ (Target::File(_) | Target::Stdin) => {
            (plan::of_file(&file, &args.part, options, app_args, facts), Step::File)
        }
    };
    match planned {
        Ok(plan) => Some(as_step(plan)),
        Err((exit, mistakes)) => {
            mistakes.iter().for_each(|why| telling.fail(exit, why));
            None
        }
    }
}

fn nothing_of_that_name(word: &str, rows: &[Row]) -> String {
    let near = nearest(word, rows.iter().map(|row| &*row.name));
    let end = near.map_or_else(|| "`pm3 list` shows the apps".to_owned(), |near| format!("did you mean {near}?"));
    format!("{word}: no app, namespace or id, and no script here or in PATH; {end}")
}

fn take(verb: Verb, step: Step<'_>, args: &Args, facts: &Facts, client: &mut Client, telling: &mut Telling) {
    let change = &args.change;
    match step {
        Step::Known(word) if change.is_empty() => {
            operate::send(verb, &[word], change.renewal(facts), change.how(), client, telling);
        }
        Step::Known(word) => operate::reshape(verb, &[word], change, facts, client, telling),
        Step::File(plan) => operate::bring(verb, plan, change, change.update_env, facts, client, telling),
        Step::Script(plan) => match with_own_names(plan, args.force, client, telling) {
            Ok(plan) => operate::bring(verb, plan, change, true, facts, client, telling),
            Err(why) => telling.fail(Exit::Failed, why),
        },
    }
}

/// Names are unique: a script whose name is taken by a running app is refused, or gets another name if that is asked for.
fn with_own_names(plan: Plan, force: bool, client: &mut Client, telling: &mut Telling) -> Result<Plan, String> {
    let mut apps = Vec::new();
    for mut app in plan.apps {
        let name = app.name.clone();
        let of_name: Vec<&Row> = telling.rows().iter().filter(|row| row.name == name).collect();
        if of_name.is_empty() {
            apps.push(app);
            continue;
        }
        if force {
            let taken = |name: &str| telling.rows().iter().any(|row| *row.name == *name);
            let free = (2..).map(|count| format!("{name}-{count}")).find(|name| !taken(name)).unwrap_or_default();
            telling.say(format_args!("[{name}] is there already, so this one is called {free}"));
            app.name = free.into();
            apps.push(app);
            continue;
        }
        let runs = of_name.iter().any(|row| !["stopped", "errored", "finished"].contains(&&*row.status));
        let (described, _) = client.describe(vec![name.clone()], false).map_err(|error| error.to_string())?;
        let other = described.iter().map(|one| &one.spec).find(|spec| program(spec) != program(&app));
        match other {
            Some(other) => {
                return Err(format!(
                    "{name}: an app of that name runs another script, {}; choose a name with --name, or let -f choose",
                    program(other).display()
                ));
            }
            None if runs => {
                return Err(format!(
                    "{name}: runs already; `pm3 restart {name}` restarts it, -f starts another one beside it"
                ));
            }
            None => apps.push(app),
        }
    }
    Ok(Plan { apps, ..plan })
}

/// What an app runs, as one path.
fn program(app: &AppSpec) -> PathBuf {
    let cwd = Path::new(app.launch.cwd.as_deref().unwrap_or("/"));
    cwd.join(&*app.launch.script).components().collect()
}

/// Becomes the supervisor of what the steps are. There is no list yet, so all of them are apps.
fn in_the_foreground(
    steps: Vec<Step<'_>>,
    mut telling: Telling,
    args: &Args,
    context: &Context,
    facts: &Facts,
) -> Performed {
    let mut apps: Vec<AppSpec> = Vec::new();
    for step in steps {
        match step {
            Step::File(plan) | Step::Script(plan) => {
                plan.warnings.iter().for_each(|line| telling.warn(line));
                plan.missing.iter().for_each(|why| telling.fail(Exit::Failed, why));
                apps.extend(plan.apps);
            }
            Step::Known(word) => telling.fail(Exit::Failed, nothing_of_that_name(word, &[])),
        }
    }
    let twice = apps.iter().enumerate().find(|(at, app)| apps.iter().skip(at + 1).any(|one| one.name == app.name));
    if let Some((_, app)) = twice {
        telling.fail(Exit::Failed, format_args!("{}: there twice; each app needs a name of its own", app.name));
    }
    if telling.has_failed() {
        return Performed::Said(telling.report());
    }
    for app in &mut apps {
        // There is one environment here, which becomes init's; what an app shall not have of it is said with the app.
        let without = args.change.hidden(facts).map(|name| (name.into(), None)).collect::<Vec<_>>();
        app.launch.shell = without.into();
    }
    telling.tell_warnings();
    foreground::of_apps(apps, context.socket.clone(), facts)
}
