//! How many instances of an app get new runs at once. The words are those of Kubernetes' rolling updates
//! (`maxSurge`, `maxUnavailable`), and so is what they mean; the numbers are those of a careful operator: one.

use serde::{Deserialize, Serialize};

use super::app::App;
use super::hold::Care;
use super::instance::Instance;
use super::reload::{Manner, Roll};
use super::seldom::Usual;

/// How many of an app's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Amount {
    Count(u32),
    /// Of all that there are to be.
    Percent(u8),
}

impl Amount {
    /// The smallest number of these instances that is as much; never none.
    pub fn rounded_up(self, instances: u32) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => share(percent, instances, 99),
        }
        .max(1)
    }

    /// The largest number of these instances that is no more; never none.
    pub fn rounded_down(self, instances: u32) -> u32 {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => share(percent, instances, 0),
        }
        .max(1)
    }
}

fn share(percent: u8, of: u32, rounding: u64) -> u32 {
    u32::try_from((u64::from(percent) * u64::from(of) + rounding) / 100).unwrap_or(u32::MAX)
}

/// What an app's entry says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollPolicy {
    /// So many instances have a new run beside the old one at once, where the new one comes first.
    pub max_surge: Amount,
    /// So many are away at once, where the old run ends first.
    pub max_unavailable: Amount,
}

impl Usual for RollPolicy {
    const USUAL: &'static RollPolicy = &RollPolicy { max_surge: Amount::Count(1), max_unavailable: Amount::Count(1) };
}

impl Default for RollPolicy {
    fn default() -> RollPolicy {
        RollPolicy::USUAL.clone()
    }
}

/// What a request says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// So many at once, of either kind, whatever the entry says (PM2's `--parallel`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Of a reload: it can be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub care: Option<Care>,
}

impl Rollout {
    /// Nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Rollout::default()
    }
}

/// How many may be on their way at once.
struct Most {
    /// With a second run beside the first.
    beside: usize,
    away: usize,
}

impl App {
    fn most(&self, roll: &Roll) -> Most {
        let (policy, instances) = (&self.spec.roll, self.spec.instances);
        let (beside, away) = match roll.parallel {
            Some(count) => (count, count),
            None => (policy.max_surge.rounded_up(instances), policy.max_unavailable.rounded_down(instances)),
        };
        let number = |count: u32| usize::try_from(count.max(1)).unwrap_or(usize::MAX);
        Most { beside: number(beside), away: number(away) }
    }

    /// The turn of this instance may begin, as far as the others are.
    pub(super) fn has_room(&self, roll: &Roll) -> bool {
        let most = self.most(roll);
        let turns = self.serving().filter(|one| one.rolling).count();
        let away = self.away();
        let has_room = match roll.manner {
            Manner::NewFirst => turns.saturating_sub(away) < most.beside,
            Manner::OldFirst => away < most.away,
        };
        has_room && turns < most.beside.max(most.away)
    }

    /// An instance that has its turn may do without its run for a while.
    pub(super) fn may_miss(&self, roll: &Roll) -> bool {
        self.away() < self.most(roll).away
    }

    fn away(&self) -> usize {
        let is_away = |one: &&Instance| one.rolling && !one.is_online();
        self.serving().filter(is_away).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_rounded_as_kubernetes_does_and_is_never_none() {
        for (percent, instances, least, most) in
            [(25, 4, 1, 1), (25, 5, 2, 1), (25, 1, 1, 1), (5, 100, 5, 5), (5, 101, 6, 5), (100, 3, 3, 3), (1, 0, 1, 1)]
        {
            let amount = Amount::Percent(percent);
            assert_eq!(
                (amount.rounded_up(instances), amount.rounded_down(instances)),
                (least, most),
                "{percent} % of {instances}"
            );
        }
        assert_eq!((Amount::Count(3).rounded_up(2), Amount::Count(0).rounded_down(2)), (3, 1));
    }
}
