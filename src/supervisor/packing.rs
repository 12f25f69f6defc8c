//! Apps as JSON without what is as the defaults have it, so that a thousand plain ones stay small. Made by those who send
//! apps to init, which only reads them.

use serde::{Serialize, Serializer, ser};
use serde_json::{Result, Value};

use super::spec::{AppSpec, Rare};

/// Apps without what is as the defaults have it.
///
/// # Errors
/// None that plain data can have.
pub fn apps(apps: &[AppSpec]) -> Result<Vec<Value>> {
    let (plain, plain_rare) = (serde_json::to_value(AppSpec::default())?, serde_json::to_value(Rare::default())?);
    let app = |app: &AppSpec| {
        let mut value = serde_json::to_value(app)?;
        prune(&mut value, &plain);
        if let Some(rare) = value.pointer_mut("/launch/rare") {
            prune(rare, &plain_rare);
        }
        Ok(value)
    };
    apps.iter().map(app).collect()
}

/// The same, as serde's `serialize_with` wants it.
pub(crate) fn serialize<S: Serializer>(list: &[AppSpec], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    apps(list).map_err(ser::Error::custom)?.serialize(serializer)
}

/// Any plain data without what is the same in `default`.
///
/// # Errors
/// None that plain data can have.
pub fn less<T: Serialize>(value: &T, default: &T) -> Result<Value> {
    let mut value = serde_json::to_value(value)?;
    prune(&mut value, &serde_json::to_value(default)?);
    Ok(value)
}

/// Removes from an object every field that is the same in `default`.
fn prune(value: &mut Value, default: &Value) {
    if let (Value::Object(fields), Value::Object(defaults)) = (value, default) {
        fields.retain(|name, field| defaults.get(name) != Some(field));
        for (name, field) in fields {
            if let Some(default) = defaults.get(name) {
                prune(field, default);
            }
        }
    }
}
