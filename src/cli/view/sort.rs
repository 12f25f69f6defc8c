//! `--sort`: the order of the list. A word that means nothing is a mistake, where PM2 sorts by name and says nothing.

use std::cmp::Ordering;
use std::fmt;

use super::text::printable;
use crate::control::Row;
use crate::supervisor::near::nearest;

/// An order of the list: `name:asc` is PM2's. Equals are ordered by name and id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Sort {
    field: Field,
    descending: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Name,
    Namespace,
    Pid,
    Id,
    Cpu,
    Memory,
    Uptime,
    Status,
    Restarts,
}

const FIELDS: [(&str, Field); 9] = [
    ("name", Field::Name),
    ("namespace", Field::Namespace),
    ("pid", Field::Pid),
    ("id", Field::Id),
    ("cpu", Field::Cpu),
    ("memory", Field::Memory),
    ("uptime", Field::Uptime),
    ("status", Field::Status),
    ("restarts", Field::Restarts),
];

impl Sort {
    pub(in crate::cli) const BY_ID: Sort = Sort { field: Field::Id, descending: false };

    /// Reads `field[:asc|desc]`.
    ///
    /// # Errors
    /// No such field, or no such order, with the nearest word: PM2 would sort by name and say nothing.
    pub(in crate::cli) fn parse(text: &str) -> Result<Sort, Mistake> {
        let (word, order) = text.split_once(':').unwrap_or((text, "asc"));
        let lower = word.to_lowercase();
        // What the column is called.
        let name = if lower == "mem" { "memory" } else { &lower };
        let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
        let names = FIELDS.map(|(known, _)| known);
        let field = field.ok_or_else(|| Mistake::new(word, "field", &names.join(", "), names))?;
        let descending = match order.to_lowercase().as_str() {
            "asc" => false,
            "desc" => true,
            // Of two words that are as near, the first is meant.
            _ => return Err(Mistake::new(order, "order", "asc or desc", ["desc", "asc"])),
        };
        Ok(Sort { field, descending })
    }

    /// The rows in this order.
    pub(in crate::cli) fn of(self, rows: &[Row]) -> Vec<&Row> {
        let mut sorted: Vec<&Row> = rows.iter().collect();
        sorted.sort_by(|one, other| {
            let order = self.field.compare(one, other);
            let order = if self.descending { order.reverse() } else { order };
            order.then_with(|| (&one.name, one.id).cmp(&(&other.name, other.id)))
        });
        sorted
    }
}

impl Field {
    fn compare(self, one: &Row, other: &Row) -> Ordering {
        match self {
            Field::Name => one.name.cmp(&other.name),
            Field::Namespace => one.namespace.cmp(&other.namespace),
            Field::Pid => one.pid.cmp(&other.pid),
            Field::Id => one.id.cmp(&other.id),
            Field::Cpu => one.cpu.unwrap_or(0.0).total_cmp(&other.cpu.unwrap_or(0.0)),
            Field::Memory => one.memory_bytes.cmp(&other.memory_bytes),
            Field::Uptime => one.uptime_ms.cmp(&other.uptime_ms),
            Field::Status => one.status.cmp(&other.status),
            Field::Restarts => one.restarts.cmp(&other.restarts),
        }
    }
}

/// A word of `--sort` that means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Mistake(String);

impl Mistake {
    fn new(word: &str, what: &str, expected: &str, known: impl IntoIterator<Item = &'static str>) -> Mistake {
        let meant = nearest(word, known).map(|near| format!(", did you mean {near}?")).unwrap_or_default();
        Mistake(format!("no {what} `{}`: expected {expected}{meant}", printable(word)))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rows() -> Vec<Row> {
        let row = |id: u32, name: &str, status: &str, restarts| Row {
            id,
            name: name.into(),
            status: status.into(),
            restarts,
            ..Row::default()
        };
        vec![
            Row { pid: 7, cpu: Some(12.0), uptime_ms: 125_000, memory_bytes: 54, ..row(0, "web", "online", 0) },
            Row { pid: 8, uptime_ms: 12_000, memory_bytes: 21, namespace: "x".into(), ..row(1, "web", "online", 3) },
            row(2, "a-worker", "errored", 15),
        ]
    }

    fn order(sort: &str) -> Vec<u32> {
        Sort::parse(sort).unwrap().of(&rows()).iter().map(|row| row.id).collect()
    }

    #[test]
    fn rows_come_in_the_order_that_was_asked_for() {
        for (sort, ids) in [
            ("name", [2, 0, 1]),
            ("name:asc", [2, 0, 1]),
            ("name:desc", [0, 1, 2]),
            ("namespace:desc", [1, 2, 0]),
            ("id", [0, 1, 2]),
            ("ID:DESC", [2, 1, 0]),
            ("pid", [2, 0, 1]),
            ("cpu:desc", [0, 2, 1]),
            ("memory:desc", [0, 1, 2]),
            ("mem", [2, 1, 0]),
            ("uptime:desc", [0, 1, 2]),
            ("status", [2, 0, 1]),
            ("restarts:desc", [2, 1, 0]),
        ] {
            assert_eq!(order(sort), ids, "{sort}");
        }
    }

    #[test]
    fn an_order_that_means_nothing_is_a_mistake() {
        let fields = "name, namespace, pid, id, cpu, memory, uptime, status, restarts";
        for (sort, mistake) in [
            ("nmae", format!("no field `nmae`: expected {fields}, did you mean name?")),
            ("", format!("no field ``: expected {fields}")),
            (":asc", format!("no field ``: expected {fields}")),
            ("name:dsc", "no order `dsc`: expected asc or desc, did you mean desc?".into()),
            ("name:", "no order ``: expected asc or desc".into()),
            ("name:asc:desc", "no order `asc:desc`: expected asc or desc".into()),
        ] {
            assert_eq!(Sort::parse(sort), Err(Mistake(mistake)), "{sort}");
        }
    }
}
