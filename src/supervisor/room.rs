//! How many instances there is room for. What would not fit is refused before anything is changed: a start that fails
//! later, for want of a descriptor, would look like the app's fault.

use super::Supervisor;
use super::spec::{AppSpec, INSTANCES_MAX, Input};

impl Supervisor {
    /// How many descriptors pm3 can hold for its apps' pipes. Without this call any number.
    pub fn limit_descriptors(&mut self, most: u64) {
        self.descriptors = Some(most);
    }

    /// Why there is no room for these apps, each with so many instances, if there is none.
    pub(super) fn crowding<'a>(&self, apps: impl Iterator<Item = (&'a AppSpec, u32)>) -> Option<String> {
        let (mut instances, mut descriptors) = (0u32, 0u64);
        for (app, count) in apps {
            instances = instances.saturating_add(count.max(1)).saturating_add(app.spares());
            descriptors = descriptors.saturating_add(held(app, count));
        }
        if instances > INSTANCES_MAX {
            return Some(format!("{instances} instances of all apps together, more than {INSTANCES_MAX}"));
        }
        let most = self.descriptors.filter(|most| descriptors > *most)?;
        Some(format!(
            "{descriptors} file descriptors for the pipes of all apps together, more than {most}; \
             start pm3 with a higher limit (ulimit -n)"
        ))
    }
}

/// The descriptors that pm3 holds for an app, as many for each instance, and for one more while it is reloaded: two pipes
/// that it writes into, one that it reads, the channel on which it says that it is ready, and the sockets of its entry.
fn held(app: &AppSpec, instances: u32) -> u64 {
    let output = if app.launch.output.mode.is_collected() { 2 } else { 0 };
    let reads = app.launch.rare.as_deref().is_some_and(|rare| rare.stdin == Input::Pipe);
    let sockets = app.listen().len() as u64;
    (output + u64::from(reads) + u64::from(app.ready_within().is_some()) + sockets)
        * (u64::from(instances) + u64::from(app.spares()) + 1)
}
