//! The table of `pm3 list`: PM2's columns and words, as many of them as fit. Pure: rows in, text out.

use crate::control::Row;

/// How the reader sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Columns of the terminal; None where it is none: everything is shown.
    pub(super) width: Option<usize>,
    pub(super) color: bool,
}

/// The columns in PM2's order; the last tells why the last run ended, which PM2 does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Namespace,
    Pid,
    Uptime,
    Restarts,
    Status,
    Cpu,
    Memory,
    User,
    Reason,
}

const COLUMNS: [Column; 11] = [
    Column::Id,
    Column::Name,
    Column::Namespace,
    Column::Pid,
    Column::Uptime,
    Column::Restarts,
    Column::Status,
    Column::Cpu,
    Column::Memory,
    Column::User,
    Column::Reason,
];

/// What goes first where there is not room for all; what is not here stays. Before a column goes, the reason is cut;
/// once that has gone, the name.
const LEAVING: [Column; 8] = [
    Column::Namespace,
    Column::User,
    Column::Reason,
    Column::Pid,
    Column::Uptime,
    Column::Restarts,
    Column::Cpu,
    Column::Memory,
];

/// Narrower than this a text column tells nothing.
const TEXT_MIN: usize = 12;

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::Name => "name",
            Column::Namespace => "namespace",
            Column::Pid => "pid",
            Column::Uptime => "uptime",
            Column::Restarts => "↺",
            Column::Status => "status",
            Column::Cpu => "cpu",
            Column::Memory => "mem",
            Column::User => "user",
            Column::Reason => "reason",
        }
    }

    fn text(self, row: &Row) -> String {
        match self {
            Column::Id => row.id.to_string(),
            Column::Name => printable(&row.name),
            Column::Namespace => printable(&row.namespace),
            Column::Pid => row.pid.to_string(),
            Column::Uptime => uptime(row.uptime_ms),
            Column::Restarts => row.restarts.to_string(),
            Column::Status => printable(&row.status),
            Column::Cpu => row.cpu.map(|percent| format!("{percent:.1}%")).unwrap_or_default(),
            Column::Memory => memory(row.memory_bytes),
            Column::User => printable(&row.user),
            Column::Reason => printable(&row.reason),
        }
    }

    /// Nothing is measured or has happened yet: the column would be empty.
    fn is_void(self, rows: &[&Row]) -> bool {
        match self {
            Column::Cpu => rows.iter().all(|row| row.cpu.is_none()),
            Column::User => rows.iter().all(|row| row.user.is_empty()),
            Column::Reason => rows.iter().all(|row| row.reason.is_empty()),
            Column::Id
            | Column::Name
            | Column::Namespace
            | Column::Pid
            | Column::Uptime
            | Column::Restarts
            | Column::Status
            | Column::Memory => false,
        }
    }
}

/// The table, sorted by name as PM2's is.
pub(super) fn render(rows: &[Row], style: Style) -> String {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| (&row.name, row.id));
    let table = fit(&sorted, style.width);
    let rule = |left: &str, cross: &str, right: &str| {
        let dashes: Vec<String> = table.iter().map(|(_, width)| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", dashes.join(cross))
    };
    let line = |cell: &dyn Fn(Column, usize) -> String| {
        let cells: Vec<String> = table.iter().map(|(column, width)| cell(*column, *width)).collect();
        format!("│ {} │\n", cells.join(" │ "))
    };
    let mut out = rule("┌", "┬", "┐");
    out += &line(&|column, width| paint(&padded(column.title(), width), style, Some(TITLE)));
    if !sorted.is_empty() {
        out += &rule("├", "┼", "┤");
    }
    for row in sorted {
        out += &line(&|column, width| {
            let color = if column == Column::Status { status_color(&row.status) } else { None };
            paint(&padded(&column.text(row), width), style, color)
        });
    }
    out + &rule("└", "┴", "┘")
}

/// The columns that there is room for, and their widths.
fn fit(rows: &[&Row], room: Option<usize>) -> Vec<(Column, usize)> {
    let natural = |column: Column| {
        let texts = rows.iter().map(|row| column.text(row).chars().count());
        texts.max().unwrap_or(0).max(column.title().chars().count())
    };
    let shown = COLUMNS.into_iter().filter(|column| !column.is_void(rows));
    let mut table: Vec<(Column, usize)> = shown.map(|column| (column, natural(column))).collect();
    let Some(room) = room else { return table };
    let mut leaving = LEAVING.into_iter();
    loop {
        let explains = table.iter().any(|(column, _)| *column == Column::Reason);
        let soft = if explains { Column::Reason } else { Column::Name };
        if shrink(&mut table, soft, room) {
            return table;
        }
        let Some(gone) = leaving.next() else { return table };
        table.retain(|(column, _)| *column != gone);
    }
}

/// Takes from one column what is too much, as far as it still tells something. True: the table fits.
fn shrink(table: &mut [(Column, usize)], column: Column, room: usize) -> bool {
    let total: usize = table.iter().map(|(_, width)| width + 3).sum::<usize>() + 1;
    let excess = total.saturating_sub(room);
    if excess == 0 {
        return true;
    }
    let Some((_, width)) = table.iter_mut().find(|(known, _)| *known == column) else { return false };
    let spare = width.saturating_sub(TEXT_MIN);
    if spare >= excess {
        *width -= excess;
    }
    spare >= excess
}

/// `text` at exactly this width: filled up, or cut with a mark.
fn padded(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Without control characters: a name from a file must not move the reader's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

const TITLE: &str = "\x1b[1;36m";

fn status_color(status: &str) -> Option<&'static str> {
    match status {
        "online" => Some("\x1b[32m"),
        "stopped" | "errored" => Some("\x1b[31m"),
        "launching" | "stopping" | "waiting" | "waiting restart" => Some("\x1b[33m"),
        _ => None,
    }
}

fn paint(text: &str, style: Style, color: Option<&str>) -> String {
    match color.filter(|_| style.color) {
        Some(color) => format!("{color}{text}\x1b[0m"),
        None => text.to_owned(),
    }
}

/// As PM2 prints it: one unit, the largest of which there is more than one; `0` while it is not online.
fn uptime(ms: u64) -> String {
    if ms == 0 {
        return "0".to_owned();
    }
    let seconds = ms / 1_000;
    let units = [(365 * 86_400, 'Y'), (30 * 86_400, 'M'), (86_400, 'D'), (3_600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(length, _)| seconds / length > 1);
    unit.map_or_else(|| format!("{seconds}s"), |(length, letter)| format!("{}{letter}", seconds / length))
}

/// As PM2 prints it: `0b`, `51.5mb`; 1024-based.
fn memory(bytes: u64) -> String {
    let units = [(1u64 << 40, "tb"), (1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}b"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn rows() -> Vec<Row> {
        let row = Row { namespace: "default".into(), user: "root".into(), ..Row::default() };
        vec![
            Row {
                name: "web".into(),
                pid: 12_345,
                status: "online".into(),
                uptime_ms: 125_000,
                memory_bytes: 54_001_664,
                ..row.clone()
            },
            Row {
                id: 1,
                index: 1,
                name: "web".into(),
                pid: 12_346,
                status: "online".into(),
                uptime_ms: 12_000,
                restarts: 3,
                memory_bytes: 21_000_000,
                reason: "memory 23.1M over 20M".into(),
                ..row.clone()
            },
            Row {
                id: 2,
                name: "a-worker-with-a-long-name".into(),
                status: "errored".into(),
                restarts: 15,
                user: "www-data".into(),
                reason: "start failed at chdir /srv/app: no such file or directory".into(),
                ..row
            },
        ]
    }

    fn check(width: Option<usize>, expected: Expect) {
        let text = render(&rows(), Style { width, color: false });
        if let Some(width) = width {
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn without_a_terminal_everything_is_shown() {
        check(
            None,
            expect![[r#"
            ┌────┬───────────────────────────┬───────────┬───────┬────────┬────┬─────────┬────────┬──────────┬───────────────────────────────────────────────────────────┐
            │ id │ name                      │ namespace │ pid   │ uptime │ ↺  │ status  │ mem    │ user     │ reason                                                    │
            ├────┼───────────────────────────┼───────────┼───────┼────────┼────┼─────────┼────────┼──────────┼───────────────────────────────────────────────────────────┤
            │ 2  │ a-worker-with-a-long-name │ default   │ 0     │ 0      │ 15 │ errored │ 0b     │ www-data │ start failed at chdir /srv/app: no such file or directory │
            │ 0  │ web                       │ default   │ 12345 │ 2m     │ 0  │ online  │ 51.5mb │ root     │                                                           │
            │ 1  │ web                       │ default   │ 12346 │ 12s    │ 3  │ online  │ 20.0mb │ root     │ memory 23.1M over 20M                                     │
            └────┴───────────────────────────┴───────────┴───────┴────────┴────┴─────────┴────────┴──────────┴───────────────────────────────────────────────────────────┘
        "#]],
        );
    }

    #[test]
    fn a_wide_terminal_has_all_columns() {
        check(
            Some(140),
            expect![[r#"
            ┌────┬───────────────────────────┬───────────┬───────┬────────┬────┬─────────┬────────┬──────────┬─────────────────────────────────────────┐
            │ id │ name                      │ namespace │ pid   │ uptime │ ↺  │ status  │ mem    │ user     │ reason                                  │
            ├────┼───────────────────────────┼───────────┼───────┼────────┼────┼─────────┼────────┼──────────┼─────────────────────────────────────────┤
            │ 2  │ a-worker-with-a-long-name │ default   │ 0     │ 0      │ 15 │ errored │ 0b     │ www-data │ start failed at chdir /srv/app: no suc… │
            │ 0  │ web                       │ default   │ 12345 │ 2m     │ 0  │ online  │ 51.5mb │ root     │                                         │
            │ 1  │ web                       │ default   │ 12346 │ 12s    │ 3  │ online  │ 20.0mb │ root     │ memory 23.1M over 20M                   │
            └────┴───────────────────────────┴───────────┴───────┴────────┴────┴─────────┴────────┴──────────┴─────────────────────────────────────────┘
        "#]],
        );
    }

    #[test]
    fn at_a_hundred_columns_the_namespace_goes() {
        check(
            Some(100),
            expect![[r#"
            ┌────┬───────────────────────────┬───────┬────────┬────┬─────────┬────────┬────────────────────────┐
            │ id │ name                      │ pid   │ uptime │ ↺  │ status  │ mem    │ reason                 │
            ├────┼───────────────────────────┼───────┼────────┼────┼─────────┼────────┼────────────────────────┤
            │ 2  │ a-worker-with-a-long-name │ 0     │ 0      │ 15 │ errored │ 0b     │ start failed at chdir… │
            │ 0  │ web                       │ 12345 │ 2m     │ 0  │ online  │ 51.5mb │                        │
            │ 1  │ web                       │ 12346 │ 12s    │ 3  │ online  │ 20.0mb │ memory 23.1M over 20M  │
            └────┴───────────────────────────┴───────┴────────┴────┴─────────┴────────┴────────────────────────┘
        "#]],
        );
    }

    #[test]
    fn at_eighty_columns() {
        check(
            Some(80),
            expect![[r#"
            ┌────┬───────────────────────────┬───────┬────────┬────┬─────────┬────────┐
            │ id │ name                      │ pid   │ uptime │ ↺  │ status  │ mem    │
            ├────┼───────────────────────────┼───────┼────────┼────┼─────────┼────────┤
            │ 2  │ a-worker-with-a-long-name │ 0     │ 0      │ 15 │ errored │ 0b     │
            │ 0  │ web                       │ 12345 │ 2m     │ 0  │ online  │ 51.5mb │
            │ 1  │ web                       │ 12346 │ 12s    │ 3  │ online  │ 20.0mb │
            └────┴───────────────────────────┴───────┴────────┴────┴─────────┴────────┘
        "#]],
        );
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        check(
            Some(50),
            expect![[r#"
                ┌────┬───────────────────┬────┬─────────┬────────┐
                │ id │ name              │ ↺  │ status  │ mem    │
                ├────┼───────────────────┼────┼─────────┼────────┤
                │ 2  │ a-worker-with-a-… │ 15 │ errored │ 0b     │
                │ 0  │ web               │ 0  │ online  │ 51.5mb │
                │ 1  │ web               │ 3  │ online  │ 20.0mb │
                └────┴───────────────────┴────┴─────────┴────────┘
            "#]],
        );
    }

    #[test]
    fn at_last_only_the_status_is_left() {
        check(
            Some(36),
            expect![[r#"
            ┌────┬───────────────────┬─────────┐
            │ id │ name              │ status  │
            ├────┼───────────────────┼─────────┤
            │ 2  │ a-worker-with-a-… │ errored │
            │ 0  │ web               │ online  │
            │ 1  │ web               │ online  │
            └────┴───────────────────┴─────────┘
        "#]],
        );
    }

    #[test]
    fn an_empty_list_is_a_table_too() {
        expect![[r#"
            ┌────┬──────┬───────────┬─────┬────────┬───┬────────┬─────┐
            │ id │ name │ namespace │ pid │ uptime │ ↺ │ status │ mem │
            └────┴──────┴───────────┴─────┴────────┴───┴────────┴─────┘
        "#]]
        .assert_eq(&render(&[], Style::default()));
    }

    #[test]
    fn no_terminal_is_too_narrow() {
        for width in 0..36 {
            assert!(render(&rows(), Style { width: Some(width), color: true }).contains("web"));
        }
    }

    #[test]
    fn colors_do_not_move_columns() {
        let plain = render(&rows(), Style { width: Some(100), color: false });
        let mut colored = render(&rows(), Style { width: Some(100), color: true });
        assert_ne!(plain, colored);
        for code in [TITLE, "\x1b[32m", "\x1b[31m", "\x1b[0m"] {
            assert!(colored.contains(code));
            colored = colored.replace(code, "");
        }
        assert_eq!(plain, colored);
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let row = Row { name: "\x1b[2Jweb\n".into(), ..Row::default() };
        assert!(!render(&[row], Style::default()).contains(['\x1b', '\r']));
    }

    #[test]
    fn what_is_measured_is_shown() {
        let row = Row { cpu: Some(12.34), ..Row::default() };
        let text = render(&[row], Style::default());
        assert!(text.contains(" cpu ") && text.contains(" 12.3% "), "{text}");
    }

    #[test]
    fn uptime_has_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (23, "23s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_800, "2D"),
            (60 * 86_400, "2M"),
            (730 * 86_400, "2Y"),
        ] {
            assert_eq!(uptime(seconds * 1_000 + 1), text);
        }
        assert_eq!(uptime(0), "0");
    }

    #[test]
    fn memory_is_printed_as_pm2_does() {
        for (bytes, text) in [
            (0, "0b"),
            (1_023, "1023b"),
            (1_024, "1.0kb"),
            (54_001_664, "51.5mb"),
            (3 << 30, "3.0gb"),
            (u64::MAX, "16777216.0tb"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }
}
