//! From the words of a command line to apps: files of apps, options, and what follows `--`. All checks happen here, in the
//! client, before anybody is asked anything: a file with one bad app starts none.

use std::io::Read;
use std::path::Path;

use clap::builder::NonEmptyStringValueParser;

use super::options::Options;
use super::targets::Target;
use super::{Exit, ask};
use crate::config::{self, Account, Facts, Form, Given, Loaded, Mistake, Typed, Wanted};
use crate::control::Environ;
use crate::supervisor::spec::AppSpec;
use crate::sys::users::Users;

/// What is wanted of a file of apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Part {
    /// Of a file: apply the apps' env_PROFILE tables over env
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    pub(super) env: Option<String>,

    /// Of a file: these apps alone, with commas between their names
    #[arg(long, value_name = "NAMES", value_parser = NonEmptyStringValueParser::new())]
    pub(super) only: Option<String>,
}

impl Part {
    /// A complaint about what means nothing without a file.
    pub(super) fn without_file(&self) -> Option<String> {
        let given = [("--only", &self.only), ("--env", &self.env)].into_iter().find(|(_, value)| value.is_some());
        given.map(|(option, _)| {
            format!("{option} chooses from a file of apps, and none is named; name one, as in `pm3 start ecosystem.config.js {option} …`")
        })
    }
}

/// Apps, and what is to be said about where they came from.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) apps: Vec<AppSpec>,
    pub(super) warnings: Vec<String>,
    /// What `--only` lists and the file does not have: the other apps are taken all the same.
    pub(super) missing: Vec<String>,
}

/// Mistakes, a line each, and which exit code they are.
pub(super) type Mistakes = (Exit, Vec<String>);

/// The apps of a file, or of JSON on standard input, with options and arguments over what the file says.
///
/// # Errors
/// Every mistake in it; or all that it names and is not there.
pub(super) fn of_file(
    target: &Target<'_>,
    part: &Part,
    options: &Options,
    args: &[String],
    facts: &Facts,
) -> Result<Plan, Mistakes> {
    let mut plan = names_of_file(target, part, facts)?;
    for app in &mut plan.apps {
        *app = overlaid(app, options, args, facts)?;
    }
    present(&plan.apps, facts)?;
    plan.warnings.extend(notes(options, facts));
    Ok(plan)
}

/// The same without a look at what is there: for those who want to know whom a file is about.
///
/// # Errors
/// Every mistake in it.
pub(super) fn names_of_file(target: &Target<'_>, part: &Part, facts: &Facts) -> Result<Plan, Mistakes> {
    let wanted = Wanted { profile: part.env.as_deref(), only: None, travels: true };
    let loaded = match target {
        Target::File(path) => config::load(Path::new(path), &wanted, facts, &ask::node),
        Target::Stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|why| (Exit::Config, vec![format!("stdin: {why}")]))?;
            config::read("stdin", Form::Json, &text, &wanted, facts)
        }
        Target::Word(word) => return Err((Exit::Usage, vec![format!("{word}: not a file of apps")])),
    };
    let Loaded { spec, warnings } = loaded.map_err(|mistakes| (Exit::Config, lines(&mistakes)))?;
    let (apps, missing) = match &part.only {
        Some(only) => config::pick(spec.apps, only),
        None => (spec.apps, Vec::new()),
    };
    if apps.is_empty() && !missing.is_empty() {
        return Err((Exit::Failed, missing));
    }
    Ok(Plan { apps, warnings, missing })
}

/// Whether a word that no app is known by may be a script or a command line: it has a blank or a slash or an ending, or is
/// a file or a program. What is wrong with it then is found by [`of_script`].
pub(super) fn may_be_script(word: &str, options: &Options, facts: &Facts) -> bool {
    let cwd = options.text("cwd").map_or_else(|| facts.start_dir.clone(), |cwd| facts.start_dir.join(cwd));
    word.contains(|letter: char| letter.is_whitespace() || letter == '/' || letter == '.')
        || cwd.join(word).is_file()
        || facts.start_dir.join(word).is_file()
        || config::is_program(word, facts)
}

/// The app that a script or a command line is, with its options and its arguments.
///
/// # Errors
/// Every mistake; or that it is not there.
pub(super) fn of_script(word: &str, args: &[String], options: &Options, facts: &Facts) -> Result<Plan, Mistakes> {
    let mut given = options.typed();
    // With a blank in it, and if it is no file, config takes it for a command line.
    given.push(Given { option: "", key: "script", value: Typed::Text(word) });
    given.extend(after_dashes(args));
    let app = config::of_options(&given, facts).map_err(|mistakes| (Exit::Usage, lines(&mistakes)))?;
    let apps = vec![app];
    present(&apps, facts)?;
    Ok(Plan { apps, warnings: notes(options, facts).collect(), missing: Vec::new() })
}

/// An app with options and arguments over it.
///
/// # Errors
/// Every mistake, a line each.
pub(super) fn overlaid(app: &AppSpec, options: &Options, args: &[String], facts: &Facts) -> Result<AppSpec, Mistakes> {
    let given: Vec<Given<'_>> = options.typed().into_iter().chain(after_dashes(args)).collect();
    if given.is_empty() {
        return Ok(app.clone());
    }
    config::overlay(app, &given, facts).map_err(|mistakes| (Exit::Usage, lines(&mistakes)))
}

/// The arguments after `--`, which are never split.
fn after_dashes(args: &[String]) -> Option<Given<'_>> {
    let words = args.iter().map(String::as_str).collect();
    (!args.is_empty()).then_some(Given { option: "--", key: "args", value: Typed::List(words) })
}

/// What is to be said of options that are no mistake: those of PM2 that mean nothing to pm3, and less processors than none.
pub(super) fn notes(options: &Options, facts: &Facts) -> impl Iterator<Item = String> {
    let idle = options.idle.join(" ");
    let idle = (!idle.is_empty()).then(|| format!("options of PM2 without effect in pm3: {idle}"));
    let instances = options.text("instances").and_then(|typed| config::note_on_instances(typed, facts));
    let option = options.called("instances").unwrap_or_default();
    idle.into_iter().chain(instances.map(|note| format!("{option} {note}")))
}

/// The environment of this shell, for the supervisor, without what begins with one of `without`.
pub(super) fn environ(facts: &Facts, without: &[String]) -> Environ {
    let kept = facts.env.iter().filter(|(name, _)| !is_hidden(name, without));
    kept.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

/// Whether `--filter-env` keeps a variable from apps.
pub(super) fn is_hidden(name: &str, without: &[String]) -> bool {
    without.iter().any(|start| !start.is_empty() && name.starts_with(start.as_str()))
}

fn present(apps: &[AppSpec], facts: &Facts) -> Result<(), Mistakes> {
    let users = Users::read();
    let known = |account: Account<'_>| match account {
        Account::User(name) => name.parse::<u32>().is_ok() || users.by_name(name).is_some(),
        Account::Group(name) => users.gid(name).is_some(),
    };
    let absent = config::absent(apps, facts, &known);
    if absent.is_empty() { Ok(()) } else { Err((Exit::Failed, absent)) }
}

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(Mistake::to_string).collect()
}
