//! The checked plan on its way to init: versioned JSON without the values that are defaults anyway, so that a
//! thousand plain apps stay small. A field that is missing takes its default and an unknown one is ignored; so an older
//! and a newer pm3 can read each other's plan, and the version changes only when a field changes its meaning.

use serde::Deserialize;
use serde_json::Value;

use crate::supervisor::packing;
use crate::supervisor::spec::{Settings, Spec};

/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Envelope {
    v: u32,
    spec: Spec,
}

/// The plan as bytes for [`unpack`].
pub fn pack(spec: &Spec) -> Vec<u8> {
    // Derived data with text keys always becomes JSON; should it not, the empty result is refused by `unpack`.
    sparse(spec)
        .and_then(|spec| serde_json::to_vec(&serde_json::json!({ "v": VERSION, "spec": spec })))
        .unwrap_or_default()
}

/// The plan from the bytes of [`pack`].
pub fn unpack(bytes: &[u8]) -> Result<Spec, String> {
    let Envelope { v, spec } = serde_json::from_slice(bytes).map_err(|why| format!("packed plan: {why}"))?;
    if v > VERSION {
        return Err(format!("packed plan: version {v} is newer than {VERSION}, the newest that this pm3 reads"));
    }
    Ok(spec)
}

/// The spec as JSON, without what is as the defaults have it.
fn sparse(spec: &Spec) -> serde_json::Result<Value> {
    let apps = packing::apps(&spec.apps)?;
    let settings = packing::less(&spec.settings, &Settings::default())?;
    Ok(serde_json::json!({ "apps": apps, "settings": settings }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::supervisor::event::{Millis, Sig};
    use crate::supervisor::spec::{AppSpec, Rare};
    use crate::supervisor::spec::{Kind, Launch, Limit, Resource, RestartPolicy, StopPolicy};

    #[test]
    fn what_is_packed_comes_out_the_same() {
        let rare = Rare { umask: Some(0o22), ..Rare::default() };
        let limits = [Limit { resource: Resource::Nofile, soft: Some(1024), hard: None }];
        let spec = Spec {
            apps: vec![
                AppSpec { name: "plain".into(), ..AppSpec::default() },
                AppSpec {
                    name: "web".into(),
                    kind: Kind::Oneshot,
                    restart: RestartPolicy { backoff: Millis(100), ..RestartPolicy::default() }.into(),
                    stop: StopPolicy { signal: Sig::INT, ..StopPolicy::default() },
                    after: ["plain".into()].into(),
                    memory_limit: Some(20 << 20),
                    launch: Launch {
                        script: "server.js".into(),
                        env: [("PORT".into(), "3000".into())].into(),
                        rare: Some(Box::new(Rare { limits: limits.into(), ..rare })),
                        ..Launch::default()
                    },
                    ..AppSpec::default()
                },
            ],
            settings: Settings { control: false, cwd: "/srv".into(), ..Settings::default() },
        };
        assert_eq!(unpack(&pack(&spec)).unwrap(), spec);
        assert_eq!(unpack(&pack(&Spec::default())).unwrap(), Spec::default());
    }

    #[test]
    fn defaults_take_no_room() {
        let spec = Spec { apps: vec![AppSpec { name: "a".into(), ..AppSpec::default() }], ..Spec::default() };
        let text = String::from_utf8(pack(&spec)).unwrap();
        assert_eq!(text, r#"{"spec":{"apps":[{"name":"a"}],"settings":{}},"v":1}"#);
    }

    #[test]
    fn unknown_fields_are_ignored_and_newer_versions_refused() {
        let later = br#"{"v":1,"spec":{"apps":[{"name":"a","wings":true}],"colour":"red"},"more":1}"#;
        assert_eq!(&*unpack(later).unwrap().apps[0].name, "a");
        let newer = unpack(br#"{"v":2,"spec":{}}"#).unwrap_err();
        assert_eq!(newer, "packed plan: version 2 is newer than 1, the newest that this pm3 reads");
        for garbage in [&b""[..], b"{}", b"\xff\x00", br#"{"v":1,"spec":{"apps":{}}}"#] {
            assert!(unpack(garbage).unwrap_err().starts_with("packed plan: "));
        }
    }
}
