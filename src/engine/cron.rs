//! When a cron expression comes next, in local time. Here and not in the supervisor, because the answer depends on
//! the time zone and the wall clock.

use std::time::Duration;

use chrono::{Local, TimeDelta};
use croner::Cron;

use crate::supervisor::event::Mono;

/// A schedule is asked for again in the moment that it came. A clock that is being slewed may not be there quite yet,
/// and the same occurrence must not be found twice.
const SLACK: TimeDelta = TimeDelta::milliseconds(500);

/// The moment of the next occurrence; None: it never comes, or the expression is none.
pub(super) fn next(expression: &str, now: Mono) -> Option<Mono> {
    let cron: Cron = expression.parse().ok()?;
    let wall = Local::now();
    let next = cron.find_next_occurrence(&(wall + SLACK), false).ok()?;
    let wait = (next - wall).to_std().unwrap_or(Duration::ZERO);
    Some(now.after(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_occurrence_lies_within_its_period() {
        let now = Mono(1_000_000_000);
        for (expression, period) in [("* * * * * *", 1), ("* * * * *", 60), ("*/5 * * * *", 300)] {
            let at = next(expression, now).map(|at| at.since(now).as_millis());
            assert!(at.is_some_and(|at| at > 400 && at <= period * 1_000 + 500), "{expression}: {at:?}");
        }
        assert_eq!(next("0 0 30 2 *", now), None);
        assert_eq!(next("nonsense", now), None);
    }
}
