//! Settings that most apps leave as they are: they take the room of a pointer there, and a place of their own on the heap
//! only where something is set. To read and to write one it looks like the settings themselves; packed, too.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the settings are where nobody has set them.
pub trait Usual: Clone + Default + PartialEq + 'static {
    /// The same as `default()`, in the program itself.
    const USUAL: &'static Self;
}

/// Settings that are mostly as usual.
#[derive(Clone)]
pub struct Seldom<T>(Option<Box<T>>);

impl<T: Usual> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::USUAL)
    }
}

impl<T: Usual> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Usual> From<T> for Seldom<T> {
    fn from(settings: T) -> Seldom<T> {
        Seldom((settings != *T::USUAL).then(|| Box::new(settings)))
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Seldom<T> {
        Seldom(None)
    }
}

impl<T: Usual> PartialEq for Seldom<T> {
    fn eq(&self, other: &Seldom<T>) -> bool {
        **self == **other
    }
}

impl<T: Usual + std::fmt::Debug> std::fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Usual + Serialize> Serialize for Seldom<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Seldom<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seldom<T>, D::Error> {
        T::deserialize(deserializer).map(Seldom::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::supervisor::spec::{AppSpec, LogMode, Output, RestartPolicy, RollPolicy};

    #[test]
    fn what_is_usual_is_the_default() {
        assert_eq!(*RestartPolicy::USUAL, RestartPolicy::default());
        assert_eq!(*Output::USUAL, Output::default());
        assert_eq!(*RollPolicy::USUAL, RollPolicy::default());
    }

    #[test]
    fn what_is_as_usual_takes_no_room_wherever_it_comes_from() {
        let mut app = AppSpec::default();
        assert!(app.launch.output.0.is_none());
        app.launch.output.mode = LogMode::Raw;
        assert_eq!(app.launch.output.mode, LogMode::Raw);
        let packed = serde_json::to_string(&app).unwrap();
        assert!(packed.contains(r#""output":{"mode":"raw","#), "{packed}");
        assert_eq!(serde_json::from_str::<AppSpec>(&packed).unwrap(), app);

        app.launch.output.mode = LogMode::default();
        assert_eq!(app, AppSpec::default());
        let packed = serde_json::to_string(&app).unwrap();
        let unpacked: AppSpec = serde_json::from_str(&packed).unwrap();
        assert!(unpacked.launch.output.0.is_none() && unpacked.restart.0.is_none());
    }
}
