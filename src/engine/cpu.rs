//! How busy runs are, in percent of one processor: what a run's tree has taken between two looks at it. A look is taken
//! when somebody asks, and never otherwise; so the first tells of the time since the run began.

use std::time::Duration;

use crate::supervisor::event::{Mono, RunId};

/// The kernel counts in hundredths of a second: over less than this the percentage would be noise, and what the last
/// look told is told again.
const APART: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Look {
    run: RunId,
    at: Mono,
    spent_ms: u64,
    percent: f32,
}

/// The last look at each run, in the order of the runs.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<Look>);

impl Looks {
    /// How busy a run has been since the last look, or since it began. `spent_ms` is what its tree has taken by now.
    pub(super) fn percent(&mut self, run: RunId, began: Mono, now: Mono, spent_ms: u64) -> f32 {
        match self.0.binary_search_by_key(&run, |look| look.run) {
            Ok(at) => match self.0.get_mut(at) {
                Some(look) if now.since(look.at) < APART => look.percent,
                Some(look) => {
                    let percent = share(spent_ms.saturating_sub(look.spent_ms), now.since(look.at));
                    *look = Look { run, at: now, spent_ms, percent };
                    percent
                }
                None => 0.0,
            },
            Err(at) => {
                let percent = share(spent_ms, now.since(began));
                self.0.insert(at, Look { run, at: now, spent_ms, percent });
                percent
            }
        }
    }

    /// Forgets all runs but these, which are sorted.
    pub(super) fn keep(&mut self, runs: &[RunId]) {
        self.0.retain(|look| runs.binary_search(&look.run).is_ok());
        self.0.shrink_to_fit();
    }
}

/// In percent, to a tenth.
fn share(spent_ms: u64, of: Duration) -> f32 {
    let millis = of.as_secs_f32() * 1_000.0;
    if millis < 10.0 { 0.0 } else { (spent_ms as f32 * 1_000.0 / millis).round() / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(7);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn the_first_look_tells_of_the_whole_run_and_later_ones_of_what_came_since() {
        let mut looks = Looks::default();
        assert_eq!(looks.percent(RUN, at(1_000), at(3_000), 500), 25.0);
        assert_eq!(looks.percent(RUN, at(1_000), at(4_000), 2_500), 200.0);
        assert_eq!(looks.percent(RUN, at(1_000), at(7_000), 2_510), 0.3);
        // A child that nobody waited for takes its time with it.
        assert_eq!(looks.percent(RUN, at(1_000), at(8_000), 10), 0.0);
    }

    #[test]
    fn who_looks_too_often_is_told_the_same_again() {
        let mut looks = Looks::default();
        assert_eq!(looks.percent(RUN, at(0), at(5), 5), 0.0);
        assert_eq!(looks.percent(RUN, at(0), at(254), 200), 0.0);
        assert_eq!(looks.percent(RUN, at(0), at(1_005), 505), 50.0);
    }

    #[test]
    fn runs_that_have_ended_are_forgotten() {
        let mut looks = Looks::default();
        for run in [9, 2, 5] {
            looks.percent(RunId(run), at(0), at(1_000), 100);
        }
        looks.keep(&[RunId(2), RunId(9)]);
        assert_eq!(looks.0.iter().map(|look| look.run.0).collect::<Vec<_>>(), [2, 9]);
    }
}
