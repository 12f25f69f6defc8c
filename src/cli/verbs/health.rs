//! `pm3 health`: one line and an exit code, for Docker's HEALTHCHECK and the probes of Kubernetes: 0 where apps are well,
//! 1 where one is not.
//!
//! An app is well while one of its instances is: whoever asks would end the whole container, and with it those that work.
//! An instance is well that is online and, where it has probes, has not failed them. What an operator has stopped, and what
//! is done, is nobody's illness, unless it is asked for by name. Nobody is well or ill by a spare, which does not serve.

use super::show::{Answer, describe};
use crate::cli::ask::Context;
use crate::cli::view::why;
use crate::cli::{Exit, Report};
use crate::control::Detail;

/// Tell by the exit code whether apps are well: 0, or 1 and why not
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 health\n  pm3 health web\n  HEALTHCHECK --interval=10s CMD [\"/pm3\", \"health\"]"
)]
pub(in crate::cli) struct Args {
    /// Names, namespaces or ids of apps, or /REGEX/; default: all that are to run
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Report {
    context.ask(|client| {
        let answer = describe(client, &args.targets, false)?;
        let (line, is_well) = line(&answer, !args.targets.is_empty());
        let report = answer.report(format!("{line}\n"));
        Ok(if is_well { report } else { Report { exit: Exit::Failed, ..report } })
    })
}

/// How an instance is.
enum State {
    Well,
    /// It is not to run, or has done what it was for.
    Aside(String),
    Ill(String),
}

fn line(answer: &Answer, named: bool) -> (String, bool) {
    let (mut well, mut ill) = (Vec::new(), Vec::new());
    for app in &answer.apps {
        // One that is asked for by its id may be the only one.
        let are_all_spares = app.instances.iter().all(|one| one.row.spare);
        let is_asked = |one: &&Detail| are_all_spares || !one.row.spare;
        let states: Vec<State> = app.instances.iter().filter(is_asked).map(state).collect();
        let good = states.iter().filter(|state| matches!(state, State::Well)).count();
        let name = why::name(app);
        let worst = app.instances.iter().filter(is_asked).zip(&states).find_map(|(one, state)| match state {
            State::Ill(what) => Some(format!("{}: {what}", why::who(app, one))),
            State::Aside(what) if named => Some(format!("{}: {what}", why::who(app, one))),
            State::Aside(_) | State::Well => None,
        });
        match (good, worst) {
            (0, Some(worst)) => ill.push(worst),
            (0, None) => {}
            (good, _) if good < states.len() => {
                well.push(format!("{name}: healthy, {good} of {} instances", states.len()));
            }
            (_, _) => well.push(format!("{name}: healthy")),
        }
    }
    match (ill.as_slice(), well.as_slice()) {
        ([], []) if answer.apps.is_empty() && named => ("nothing of that name is there".to_owned(), false),
        ([], []) => ("healthy: no app is to run".to_owned(), true),
        ([], [one]) => (one.clone(), true),
        ([], all) => (format!("healthy: {} apps", all.len()), true),
        ([one], _) => (one.clone(), false),
        ([first, others @ ..], _) => (format!("{first} (and {} more)", others.len()), false),
    }
}

fn state(one: &Detail) -> State {
    let row = &one.row;
    match (&*row.status, &*row.health) {
        ("online", "" | "healthy") => State::Well,
        ("online", _) => State::Ill(why::health(one)),
        ("finished", _) if one.exit_code.unwrap_or(0) == 0 => State::Aside("finished".to_owned()),
        ("stopped" | "standby", _) => State::Aside(row.status.to_string()),
        (status, _) if row.reason.is_empty() => State::Ill(status.to_owned()),
        (status, _) => State::Ill(why::stated(status, &row.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Described, Row};
    use crate::supervisor::spec::AppSpec;

    fn app(name: &str, instances: &[(&str, &str)]) -> Described {
        let one = |(index, (status, health)): (usize, &(&str, &str))| Detail {
            row: Row {
                name: name.into(),
                index: index as u32,
                status: (*status).into(),
                spare: *status == "standby",
                health: (*health).into(),
                ..Row::default()
            },
            ailment: if *health == "unhealthy" { "status 503".into() } else { "".into() },
            ..Detail::default()
        };
        let spec = AppSpec { name: name.into(), instances: instances.len() as u32, ..AppSpec::default() };
        Described { spec, instances: instances.iter().enumerate().map(one).collect(), ..Described::default() }
    }

    #[test]
    fn an_app_is_well_while_one_of_its_instances_is() {
        let (up, ill, new) = (("online", "healthy"), ("online", "unhealthy"), ("online", "starting"));
        for (apps, named, expected, is_well) in [
            (vec![app("web", &[("online", "")])], false, "web: healthy", true),
            (vec![app("web", &[ill, up, up])], false, "web: healthy, 2 of 3 instances", true),
            (vec![app("web", &[ill])], false, "web: unhealthy: status 503", false),
            (vec![app("web", &[new, ill])], false, "web-0: starting", false),
            (vec![app("web", &[("errored", "")])], false, "web: errored", false),
            (
                vec![app("a", &[up]), app("b", &[ill]), app("c", &[new])],
                false,
                "b: unhealthy: status 503 (and 1 more)",
                false,
            ),
            (vec![app("a", &[up]), app("b", &[up])], false, "healthy: 2 apps", true),
            (vec![app("a", &[up]), app("job", &[("finished", "")])], false, "a: healthy", true),
            (vec![app("web", &[up, ("standby", "")])], false, "web: healthy", true),
            (vec![app("web", &[ill, ("standby", "")])], false, "web-0: unhealthy: status 503", false),
            (vec![app("web", &[("standby", "")])], true, "web: standby", false),
            (vec![app("a", &[("stopped", "")])], false, "healthy: no app is to run", true),
            (vec![app("a", &[("stopped", "")])], true, "a: stopped", false),
            (vec![], false, "healthy: no app is to run", true),
            (vec![], true, "nothing of that name is there", false),
        ] {
            assert_eq!(line(&Answer::of(apps), named), (expected.to_owned(), is_well));
        }
    }
}
