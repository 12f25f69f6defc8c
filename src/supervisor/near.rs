//! The nearest known name to a mistyped one, for `did you mean …`. One measure for keys, values, targets and verbs.

/// The candidate that `word` most likely stands for: the one with the fewest edits, if they are few enough that it
/// may be a slip of the finger (a third of its letters, at least one). Case does not count. Of equals the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= allowed && *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Longer words are no names; more letters than this would only cost time, which grows with their square.
const LONGEST: usize = 64;

/// How many letters must be added, dropped, changed or swapped with a neighbour to make `other` of `word`
/// (optimal string alignment).
fn edits(word: &[char], other: &str) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=word.len()).collect();
    let mut previous = None;
    for (row, theirs) in other.chars().take(LONGEST).flat_map(char::to_lowercase).enumerate() {
        let mut current = Vec::with_capacity(word.len() + 1);
        current.push(row + 1);
        let mut left = row + 1;
        for (at, ours) in word.iter().enumerate() {
            let cell = |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (left + 1).min(cell(&last, at + 1) + 1).min(cell(&last, at) + usize::from(*ours != theirs));
            let swapped = at > 0 && previous == Some(*ours) && word.get(at - 1) == Some(&theirs);
            if swapped {
                cost = cost.min(cell(&before_last, at - 1) + 1);
            }
            current.push(cost);
            left = cost;
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(theirs);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["kill_signal", "kill_timeout", "instances", "web", "worker", "db"];

    #[test]
    fn a_slip_is_recognised() {
        for (word, meant) in [
            ("kil_signal", "kill_signal"),
            ("kill-timeout", "kill_timeout"),
            ("instnaces", "instances"),
            ("Instance", "instances"),
            ("wbe", "web"),
            ("wokrer", "worker"),
            ("web", "web"),
        ] {
            assert_eq!(nearest(word, KEYS), Some(meant), "{word}");
        }
    }

    #[test]
    fn what_is_far_from_everything_stays_alone() {
        for word in ["", "d", "x", "xy", "something", "killer"] {
            assert_eq!(nearest(word, KEYS), if word == "d" { Some("db") } else { None }, "{word}");
        }
    }

    #[test]
    fn edits_are_counted_as_people_count_them() {
        for (word, other, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "acb", 1),
            ("abcd", "badc", 2),
            ("kitten", "sitting", 3),
        ] {
            let letters: Vec<char> = word.chars().collect();
            assert_eq!(edits(&letters, other), count, "{word} {other}");
        }
    }

    #[test]
    fn endless_words_cost_little() {
        assert_eq!(nearest(&"x".repeat(10_000_000), KEYS), None);
    }
}
