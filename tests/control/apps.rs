//! Apps that clients bring, with real processes: they start with the client's environment, live beside those of the
//! file, and are described, scaled, signalled and deleted.

use pm3::control::client::Client;
use pm3::control::{Count, Described, Environ, MASKED};
use pm3::supervisor::event::{Outcome, Sig, Verb};
use pm3::supervisor::spec::{AppSpec, Launch, LogMode, Output};

use crate::common::{ROLE, this_binary};
use crate::real::Init;

/// An app that does what the words say.
pub fn entry(name: &str, words: &[&str]) -> AppSpec {
    let launch = Launch {
        script: this_binary().into(),
        args: ["app"].iter().chain(words).collect(),
        env: [(ROLE.into(), "1".into())].into(),
        output: Output { mode: LogMode::Inherit, ..Output::default() }.into(),
        ..Launch::default()
    };
    AppSpec { name: name.into(), launch, ..AppSpec::default() }
}

/// This test's environment, changed: a value, or none.
fn environ(changes: &[(&str, Option<&str>)]) -> Environ {
    let own = std::env::vars().filter(|(name, _)| changes.iter().all(|(changed, _)| name != changed));
    let new = changes.iter().filter_map(|(name, value)| Some(((*name).into(), (*value)?.into())));
    own.map(|(name, value)| (name.into(), value.into())).chain(new).collect()
}

fn done(names: &[&str]) -> Outcome {
    Outcome { done: names.iter().map(|name| (*name).into()).collect(), ..Outcome::default() }
}

fn one(pm3: &Init, name: &str, secrets: bool) -> Described {
    let (mut apps, failed) = pm3.client().describe(vec![name.into()], secrets).unwrap();
    assert_eq!((apps.len(), failed.len()), (1, 0));
    apps.remove(0)
}

#[test]
fn an_app_gets_the_environment_of_the_client_that_starts_it() {
    let mut pm3 = Init::start();
    let words = ["env:FRUIT", "env:HOME", "env:OWN", "pause"];
    let mut web = entry("fruit", &words);
    web.launch.env = web.launch.env.iter().chain([("OWN", "own")]).collect();
    let shell = environ(&[("FRUIT", Some("apple")), ("HOME", None), ("OWN", Some("shell"))]);
    let outcome = pm3.client().apply(Verb::Start, vec![web], Some(shell), false).unwrap();
    assert_eq!(outcome, done(&["fruit"]));
    let mut said = |count: usize| (0..count).map(|_| pm3.out.next().unwrap()).collect::<Vec<_>>();
    assert_eq!(said(3), ["FRUIT=apple", "HOME unset", "OWN=own"]);
    // A restart keeps it, whoever asks; only --update-env takes that of another shell.
    let mut client = pm3.client();
    client.operate(Verb::Restart, vec!["fruit".into()], None).unwrap();
    let mut said = |count: usize| (0..count).map(|_| pm3.out.next().unwrap()).collect::<Vec<_>>();
    assert_eq!(said(3), ["FRUIT=apple", "HOME unset", "OWN=own"]);
    client.operate(Verb::Restart, vec!["fruit".into()], Some(environ(&[("FRUIT", Some("pear"))]))).unwrap();
    let said = said(3);
    assert!(said[0] == "FRUIT=pear" && said[1].starts_with("HOME=") && said[2] == "OWN=own", "{said:?}");
}

#[test]
fn apps_are_described_and_their_secrets_kept() {
    let mut pm3 = Init::start();
    let mut web = entry("web2", &["bind", "say:bound", "pause"]);
    web.launch.env = web.launch.env.iter().chain([("TOKEN", "a secret")]).collect();
    web.launch.output.err = Some("/dev/null".into());
    let shell = environ(&[("KEY", Some("another secret"))]);
    pm3.client().apply(Verb::Start, vec![web.clone()], Some(shell), false).unwrap();
    assert_eq!(pm3.out.next().as_deref(), Some("bound"));

    let described = one(&pm3, "web2", false);
    let text = serde_json::to_string(&described).unwrap();
    assert!(!text.contains("secret") && text.contains(&format!("[\"TOKEN\",\"{MASKED}\"]")), "{text}");
    let described = one(&pm3, "web2", true);
    let of_shell = described.spec.launch.shell.variables().iter().find(|(name, _)| &**name == "KEY").unwrap();
    assert_eq!(of_shell.1.as_deref(), Some("another secret"));
    assert_eq!(described.spec.launch.env, web.launch.env);

    let [detail] = &described.instances[..] else { panic!("{described:?}") };
    let row = &detail.row;
    assert_eq!((row.status.as_ref(), row.pid > 0, row.cpu.is_some()), ("online", true, true));
    assert_eq!((detail.out_file.as_deref(), detail.err_file.as_deref()), (None, Some("/dev/null")));
    assert_eq!((detail.exit_code, detail.runs.len(), detail.short_runs), (None, 0, 0));
    assert!(row.created_ms <= detail.started_ms && detail.started_ms > 1_700_000_000_000, "{detail:?}");
    let sockets = one(&pm3, "web2", false).instances.remove(0).sockets;
    assert!(matches!(&sockets[..], [one] if one.starts_with("tcp 127.0.0.1:")), "{sockets:?}");

    // What has ended is remembered.
    pm3.client().operate(Verb::Restart, vec!["web2".into()], None).unwrap();
    let detail = one(&pm3, "web2", false).instances.remove(0);
    assert_eq!((detail.runs[0].pid, &*detail.runs[0].reason), (row.pid, "operator"));
    assert_eq!(detail.exit_code, Some(143));

    let (apps, failed) = pm3.client().describe(vec!["nobody".into(), "jobs".into()], false).unwrap();
    assert_eq!((&*apps[0].spec.name, apps.len(), failed.len()), ("worker", 1, 1));
    assert_eq!(pm3.client().describe(vec![], false).unwrap().0.len(), 4);
}

#[test]
fn apps_are_scaled_signalled_and_deleted() {
    let mut pm3 = Init::start();
    let mut client = pm3.client();
    let waits = entry("waits", &["listen", "env:NODE_APP_INSTANCE", "hear:TERM"]);
    client.apply(Verb::Start, vec![waits], None, false).unwrap();
    assert_eq!(pm3.out.next().as_deref(), Some("NODE_APP_INSTANCE=0"));
    assert_eq!(client.scale("waits".into(), Count::Up(1)).unwrap(), done(&["waits-1"]));
    assert_eq!(pm3.out.next().as_deref(), Some("NODE_APP_INSTANCE=1"));
    let outcome = client.signal(Sig::USR2, vec!["waits".into(), "deaf".into()]).unwrap();
    assert_eq!(outcome.done, ["waits-0".into(), "waits-1".into()]);
    assert_eq!(outcome.failed, ["deaf: has no process, it is stopped".into()]);
    assert_eq!([pm3.out.next(), pm3.out.next()].map(Option::unwrap), ["heard SIGUSR2"; 2]);
    assert_eq!(client.scale("waits".into(), Count::Exactly(0)).unwrap().done.len(), 2);
    let names = |client: &mut Client| client.list().unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(&mut client), ["web", "web", "worker", "deaf", "waits"].map(Box::from));
    assert_eq!(client.operate(Verb::Delete, vec!["waits".into()], None).unwrap(), done(&["waits"]));
    client.operate(Verb::Delete, vec!["all".into()], None).unwrap();
    assert_eq!(names(&mut client), []);
    // pm3 stays, and counts from 0 again.
    client.apply(Verb::Start, vec![entry("new", &["pause"])], None, false).unwrap();
    assert_eq!(client.list().unwrap()[0].id, 0);
}

#[test]
fn who_asks_pm3_to_end_is_answered_before_it_does() {
    let mut pm3 = Init::start();
    assert_eq!(pm3.client().quit().unwrap(), done(&["pm3"]));
    assert_eq!(pm3.ended(), 0);
}

#[test]
fn a_file_that_is_read_again_leaves_the_apps_of_clients_alone() {
    let mut pm3 = Init::start();
    let mut client = pm3.client();
    client.apply(Verb::Start, vec![entry("mine", &["pause"])], None, false).unwrap();
    client.scale("worker".into(), Count::Exactly(2)).unwrap();
    let pids = |client: &mut Client| client.list().unwrap().into_iter().map(|row| row.pid).collect::<Vec<_>>();
    let before = pids(&mut client);
    pm3.read_again();
    assert_eq!(pids(&mut client), before);
}

#[test]
fn a_thousand_apps_come_in_one_request_and_none_with_one_that_is_bad() {
    let pm3 = Init::start();
    let mut client = pm3.client();
    let environ = environ(&[("MUCH", Some(&"x".repeat(10_000)))]);
    let idle = |at: usize| AppSpec { autostart: false, ..entry(&format!("app{at}"), &["pause"]) };
    let mut apps: Vec<AppSpec> = (0..1_000).map(idle).collect();
    apps.push(AppSpec { after: ["app1000".into()].into(), ..idle(999) });
    let outcome = client.apply(Verb::Start, apps.clone(), Some(environ.clone()), false).unwrap();
    assert_eq!((outcome.failed.len(), client.list().unwrap().len()), (2, 4), "{outcome:?}");
    apps.pop();
    assert_eq!(client.apply(Verb::Start, apps, Some(environ), false).unwrap(), Outcome::default());
    assert_eq!(client.list().unwrap().len(), 1_004);
}
