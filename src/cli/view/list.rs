//! `pm3 list`: PM2's columns and words, as many of them as fit, in the order that was asked for.
//!
//! PM2 has three tables, for wide, narrow and very narrow terminals. Here the columns leave one by one as room gets
//! scarce, and pass through PM2's sets on the way: so at 100 columns there are still pids. PM2's last line, of the host's
//! processors, disks and networks, is left out: it tells nothing of apps, and in a container nothing of the container.

use super::grid::{self, Cell, Grid};
use super::text::{self, printable};
use super::{Paint, Style};
use crate::control::Row;

/// The columns in PM2's order; the last tells why the last run ended, which PM2 does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Namespace,
    Version,
    Mode,
    Pid,
    Uptime,
    Restarts,
    Status,
    Cpu,
    Memory,
    User,
    Watching,
    Reason,
}

const COLUMNS: [Column; 14] = [
    Column::Id,
    Column::Name,
    Column::Namespace,
    Column::Version,
    Column::Mode,
    Column::Pid,
    Column::Uptime,
    Column::Restarts,
    Column::Status,
    Column::Cpu,
    Column::Memory,
    Column::User,
    Column::Watching,
    Column::Reason,
];

/// What goes first where there is not room for all, and how far the reason and the name are cut before it does:
/// `SIGKILL, probably oom` has 22 letters. After the reason PM2's narrow table is left, after ↺ its very narrow one.
const LEAVING: [(Column, usize, usize); 12] = [
    (Column::Watching, 22, 24),
    (Column::Version, 22, 24),
    (Column::Namespace, 22, 24),
    (Column::User, 22, 24),
    (Column::Uptime, 22, 24),
    (Column::Pid, 22, 24),
    (Column::Reason, 12, 16),
    (Column::Mode, 0, 16),
    (Column::Restarts, 0, 16),
    (Column::Memory, 0, 16),
    (Column::Cpu, 0, 16),
    (Column::Status, 0, 6),
];

/// In a narrower terminal there is never room for versions, which cost the client a look at some files.
pub(in crate::cli) const VERSIONS_FROM: usize = 90;

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::Name => "name",
            Column::Namespace => "namespace",
            Column::Version => "version",
            Column::Mode => "mode",
            Column::Pid => "pid",
            Column::Uptime => "uptime",
            Column::Restarts => "↺",
            Column::Status => "status",
            Column::Cpu => "cpu",
            Column::Memory => "mem",
            Column::User => "user",
            Column::Watching => "watching",
            Column::Reason => "last reason",
        }
    }

    /// So wide it is at least: what changes from second to second must not move the rest of a table that is watched.
    fn least(self) -> usize {
        match self {
            Column::Pid | Column::Cpu => 5,
            Column::Memory => 6,
            Column::Restarts => 2,
            Column::Id
            | Column::Name
            | Column::Namespace
            | Column::Version
            | Column::Mode
            | Column::Uptime
            | Column::Status
            | Column::User
            | Column::Watching
            | Column::Reason => 0,
        }
    }

    fn cell(self, row: &Row) -> Cell {
        match self {
            Column::Id => Cell::new(row.id.to_string(), Paint::Title),
            Column::Name => Cell::plain(&*row.name),
            Column::Namespace => Cell::plain(&*row.namespace),
            Column::Version => Cell::plain(or_unknown(&row.version)),
            Column::Mode if &*row.mode == "cluster" => Cell::new(&*row.mode, Paint::Coming),
            Column::Mode => Cell::new(&*row.mode, Paint::Inverse),
            Column::Pid => Cell::plain(row.pid.to_string()),
            Column::Uptime => Cell::plain(text::uptime(row)),
            Column::Restarts => Cell::plain(row.restarts.to_string()),
            Column::Status if is_unwell(row) => Cell::new(&*row.health, Paint::of_status(&row.health)),
            Column::Status => Cell::new(&*row.status, Paint::of_status(&row.status)),
            Column::Cpu => Cell::plain(text::percent(row.cpu.unwrap_or(0.0))),
            Column::Memory => Cell::plain(text::memory(row.memory_bytes)),
            Column::User => Cell::new(&*row.user, Paint::Bold),
            Column::Watching if row.watching => Cell::new("enabled", Paint::Good),
            Column::Watching => Cell::new("disabled", Paint::Faint),
            Column::Reason => Cell::plain(&*row.reason),
        }
    }
}

/// What its probes say is worth more than that its program executes.
fn is_unwell(row: &Row) -> bool {
    &*row.status == "online" && &*row.health == "unhealthy"
}

/// What PM2 says where it knows no version.
fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "N/A" } else { text }
}

/// The table.
pub(in crate::cli) fn table(rows: &[&Row], style: Style) -> String {
    // Before anything has happened, the column of reasons would be empty.
    let explains = rows.iter().any(|row| !row.reason.is_empty());
    let columns = COLUMNS.into_iter().filter(|column| *column != Column::Reason || explains);
    let mut columns: Vec<Drawn> = columns.map(|column| Drawn::new(column, rows)).collect();
    if let Some(room) = style.width {
        fit(&mut columns, room);
    }
    let widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let mut out = String::with_capacity((rows.len() + 4) * (grid::breadth(widths.iter().copied()) + 64));
    let mut grid = Grid::open(&mut out, &widths, style);
    grid.row(columns.iter().map(|column| &column.title));
    if !rows.is_empty() {
        grid.rule();
    }
    for at in 0..rows.len() {
        grid.row(columns.iter().filter_map(|column| column.cells.get(at)));
    }
    grid.close();
    out
}

/// A column with its cells, made once: their widths decide which columns there are.
struct Drawn {
    column: Column,
    width: usize,
    title: Cell,
    cells: Vec<Cell>,
}

impl Drawn {
    fn new(column: Column, rows: &[&Row]) -> Drawn {
        let title = Cell::new(column.title(), Paint::Title);
        let cells: Vec<Cell> = rows.iter().map(|row| column.cell(row)).collect();
        let width = cells.iter().map(Cell::width).max().unwrap_or(0).max(title.width()).max(column.least());
        Drawn { column, width, title, cells }
    }
}

/// Cuts the texts and lets columns go until the table has room.
fn fit(columns: &mut Vec<Drawn>, room: usize) {
    for (gone, reason_min, name_min) in LEAVING {
        if shrink(columns, room, &[(Column::Reason, reason_min), (Column::Name, name_min)]) {
            return;
        }
        columns.retain(|drawn| drawn.column != gone);
    }
    if !shrink(columns, room, &[(Column::Name, 1)]) {
        columns.iter_mut().filter(|drawn| drawn.column == Column::Name).for_each(|drawn| drawn.width = 1);
    }
}

/// Takes what is too much from these columns in turn, each down to its least. True: the table fits. False: nothing was
/// taken, as it would not have been enough.
fn shrink(columns: &mut [Drawn], room: usize, soft: &[(Column, usize)]) -> bool {
    let mut excess = grid::breadth(columns.iter().map(|drawn| drawn.width)).saturating_sub(room);
    let spare = |drawn: &Drawn| {
        let soft = soft.iter().find(|(column, _)| *column == drawn.column);
        soft.map_or(0, |(_, least)| drawn.width.saturating_sub(*least))
    };
    if columns.iter().map(spare).sum::<usize>() < excess {
        return false;
    }
    for (column, _) in soft {
        if let Some(drawn) = columns.iter_mut().find(|drawn| drawn.column == *column) {
            let taken = spare(drawn).min(excess);
            drawn.width -= taken;
            excess -= taken;
        }
    }
    true
}

/// PM2's short form: a block for each instance.
pub(in crate::cli) fn mini(rows: &[&Row], style: Style) -> String {
    let mut out = String::new();
    for row in rows {
        let mut line = |text: String| {
            let text = printable(&text);
            out.push_str(&style.width.map_or_else(|| text.clone(), |width| text::cut(&text, width)));
            out.push('\n');
        };
        line(format!("+--- {}", row.name));
        for (key, value) in [
            ("namespace", row.namespace.to_string()),
            ("version", or_unknown(&row.version).to_owned()),
            ("pid", row.pid.to_string()),
            ("pm3 id", row.id.to_string()),
            ("status", if is_unwell(row) { &row.health } else { &row.status }.to_string()),
            ("mode", row.mode.to_string()),
            ("restarted", row.restarts.to_string()),
            ("uptime", text::uptime(row)),
            ("cpu", text::percent(row.cpu.unwrap_or(0.0))),
            ("memory usage", text::memory(row.memory_bytes)),
            ("user", row.user.to_string()),
            ("watching", if row.watching { "yes" } else { "no" }.to_owned()),
            ("last reason", row.reason.to_string()),
        ] {
            if !value.is_empty() {
                line(format!("{key} : {value}"));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use expect_test::{Expect, expect};

    use super::super::sort::Sort;
    use super::*;

    fn rows() -> Vec<Row> {
        let row = Row {
            namespace: "default".into(),
            mode: "fork".into(),
            user: "root".into(),
            version: "1.2.3".into(),
            ..Row::default()
        };
        vec![
            Row {
                name: "web".into(),
                mode: "cluster".into(),
                pid: 12_345,
                status: "online".into(),
                uptime_ms: 125_000,
                cpu: Some(12.34),
                memory_bytes: 54_001_664,
                watching: true,
                ..row.clone()
            },
            Row {
                id: 1,
                index: 1,
                name: "web".into(),
                mode: "cluster".into(),
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
                version: "".into(),
                status: "errored".into(),
                restarts: 15,
                user: "www-data".into(),
                reason: "start failed at chdir /srv/app: no such file or directory".into(),
                ..row
            },
        ]
    }

    fn strange_rows() -> Vec<Row> {
        let texts = [
            "",
            "web",
            "漢字の名前のアプリ",
            "\x1b[2J\x07\u{9b}1m\u{202e}",
            "e\u{301}\u{301}",
            "👍👍👍👍👍👍👍",
            "a\nb\tc\r",
        ];
        let long = "a very long word ".repeat(20);
        let row = |at: usize| {
            let text = |step: usize| Box::from(*texts.get((at * 5 + step) % texts.len()).unwrap_or(&long.as_str()));
            Row {
                id: u32::MAX - u32::try_from(at).unwrap(),
                pid: u32::MAX,
                restarts: u32::MAX,
                uptime_ms: u64::MAX,
                memory_bytes: u64::MAX,
                cpu: Some(f32::MAX),
                name: text(1),
                namespace: text(2),
                version: text(3),
                mode: text(4),
                status: text(5),
                user: text(6),
                reason: long.as_str().into(),
                ..Row::default()
            }
        };
        (0..texts.len()).map(row).collect()
    }

    fn by_name(rows: &[Row], style: Style) -> String {
        table(&Sort::default().of(rows), style)
    }

    fn check(width: Option<usize>, expected: Expect) {
        expected.assert_eq(&by_name(&rows(), Style { width, color: false }));
    }

    #[test]
    fn without_a_terminal_everything_is_shown() {
        check(
            None,
            expect![[r#"
            ┌────┬───────────────────────────┬───────────┬─────────┬─────────┬───────┬────────┬────┬─────────┬───────┬────────┬──────────┬──────────┬───────────────────────────────────────────────────────────┐
            │ id │ name                      │ namespace │ version │ mode    │ pid   │ uptime │ ↺  │ status  │ cpu   │ mem    │ user     │ watching │ last reason                                               │
            ├────┼───────────────────────────┼───────────┼─────────┼─────────┼───────┼────────┼────┼─────────┼───────┼────────┼──────────┼──────────┼───────────────────────────────────────────────────────────┤
            │ 2  │ a-worker-with-a-long-name │ default   │ N/A     │ fork    │ 0     │ 0      │ 15 │ errored │ 0%    │ 0b     │ www-data │ disabled │ start failed at chdir /srv/app: no such file or directory │
            │ 0  │ web                       │ default   │ 1.2.3   │ cluster │ 12345 │ 2m     │ 0  │ online  │ 12.3% │ 51.5mb │ root     │ enabled  │                                                           │
            │ 1  │ web                       │ default   │ 1.2.3   │ cluster │ 12346 │ 12s    │ 3  │ online  │ 0%    │ 20.0mb │ root     │ disabled │ memory 23.1M over 20M                                     │
            └────┴───────────────────────────┴───────────┴─────────┴─────────┴───────┴────────┴────┴─────────┴───────┴────────┴──────────┴──────────┴───────────────────────────────────────────────────────────┘
        "#]],
        );
    }

    #[test]
    fn a_wide_terminal_has_all_columns() {
        check(
            Some(170),
            expect![[r#"
            ┌────┬───────────────────────────┬───────────┬─────────┬─────────┬───────┬────────┬────┬─────────┬───────┬────────┬──────────┬──────────┬────────────────────────────────┐
            │ id │ name                      │ namespace │ version │ mode    │ pid   │ uptime │ ↺  │ status  │ cpu   │ mem    │ user     │ watching │ last reason                    │
            ├────┼───────────────────────────┼───────────┼─────────┼─────────┼───────┼────────┼────┼─────────┼───────┼────────┼──────────┼──────────┼────────────────────────────────┤
            │ 2  │ a-worker-with-a-long-name │ default   │ N/A     │ fork    │ 0     │ 0      │ 15 │ errored │ 0%    │ 0b     │ www-data │ disabled │ start failed at chdir /srv/ap… │
            │ 0  │ web                       │ default   │ 1.2.3   │ cluster │ 12345 │ 2m     │ 0  │ online  │ 12.3% │ 51.5mb │ root     │ enabled  │                                │
            │ 1  │ web                       │ default   │ 1.2.3   │ cluster │ 12346 │ 12s    │ 3  │ online  │ 0%    │ 20.0mb │ root     │ disabled │ memory 23.1M over 20M          │
            └────┴───────────────────────────┴───────────┴─────────┴─────────┴───────┴────────┴────┴─────────┴───────┴────────┴──────────┴──────────┴────────────────────────────────┘
        "#]],
        );
    }

    #[test]
    fn at_a_hundred_and_twenty_the_name_is_cut() {
        check(
            Some(120),
            expect![[r#"
                ┌────┬───────────────────────────┬─────────┬───────┬────────┬────┬─────────┬───────┬────────┬──────────────────────────┐
                │ id │ name                      │ mode    │ pid   │ uptime │ ↺  │ status  │ cpu   │ mem    │ last reason              │
                ├────┼───────────────────────────┼─────────┼───────┼────────┼────┼─────────┼───────┼────────┼──────────────────────────┤
                │ 2  │ a-worker-with-a-long-name │ fork    │ 0     │ 0      │ 15 │ errored │ 0%    │ 0b     │ start failed at chdir /… │
                │ 0  │ web                       │ cluster │ 12345 │ 2m     │ 0  │ online  │ 12.3% │ 51.5mb │                          │
                │ 1  │ web                       │ cluster │ 12346 │ 12s    │ 3  │ online  │ 0%    │ 20.0mb │ memory 23.1M over 20M    │
                └────┴───────────────────────────┴─────────┴───────┴────────┴────┴─────────┴───────┴────────┴──────────────────────────┘
            "#]],
        );
    }

    #[test]
    fn at_eighty_columns() {
        check(
            Some(80),
            expect![[r#"
            ┌────┬───────────────────────────┬─────────┬────┬─────────┬───────┬────────┐
            │ id │ name                      │ mode    │ ↺  │ status  │ cpu   │ mem    │
            ├────┼───────────────────────────┼─────────┼────┼─────────┼───────┼────────┤
            │ 2  │ a-worker-with-a-long-name │ fork    │ 15 │ errored │ 0%    │ 0b     │
            │ 0  │ web                       │ cluster │ 0  │ online  │ 12.3% │ 51.5mb │
            │ 1  │ web                       │ cluster │ 3  │ online  │ 0%    │ 20.0mb │
            └────┴───────────────────────────┴─────────┴────┴─────────┴───────┴────────┘
        "#]],
        );
    }

    #[test]
    fn a_narrow_terminal_has_pm2s_narrow_table() {
        check(
            Some(70),
            expect![[r#"
            ┌────┬─────────────────────┬─────────┬────┬─────────┬───────┬────────┐
            │ id │ name                │ mode    │ ↺  │ status  │ cpu   │ mem    │
            ├────┼─────────────────────┼─────────┼────┼─────────┼───────┼────────┤
            │ 2  │ a-worker-with-a-lo… │ fork    │ 15 │ errored │ 0%    │ 0b     │
            │ 0  │ web                 │ cluster │ 0  │ online  │ 12.3% │ 51.5mb │
            │ 1  │ web                 │ cluster │ 3  │ online  │ 0%    │ 20.0mb │
            └────┴─────────────────────┴─────────┴────┴─────────┴───────┴────────┘
        "#]],
        );
    }

    #[test]
    fn a_very_narrow_one_has_pm2s_very_narrow_table() {
        check(
            Some(58),
            expect![[r#"
            ┌────┬───────────────────┬────┬─────────┬───────┬────────┐
            │ id │ name              │ ↺  │ status  │ cpu   │ mem    │
            ├────┼───────────────────┼────┼─────────┼───────┼────────┤
            │ 2  │ a-worker-with-a-… │ 15 │ errored │ 0%    │ 0b     │
            │ 0  │ web               │ 0  │ online  │ 12.3% │ 51.5mb │
            │ 1  │ web               │ 3  │ online  │ 0%    │ 20.0mb │
            └────┴───────────────────┴────┴─────────┴───────┴────────┘
        "#]],
        );
    }

    #[test]
    fn at_last_only_the_name_is_left() {
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
        check(
            Some(18),
            expect![[r#"
            ┌────┬───────────┐
            │ id │ name      │
            ├────┼───────────┤
            │ 2  │ a-worker… │
            │ 0  │ web       │
            │ 1  │ web       │
            └────┴───────────┘
        "#]],
        );
        check(
            Some(10),
            expect![[r#"
            ┌────┬───┐
            │ id │ … │
            ├────┼───┤
            │ 2  │ … │
            │ 0  │ … │
            │ 1  │ … │
            └────┴───┘
        "#]],
        );
    }

    #[test]
    fn wide_letters_and_wild_ones_stay_in_their_columns() {
        let names = ["漢字", "\x1b[2Jweb\n", "größe", "👍"];
        let rows: Vec<Row> = names.iter().map(|name| Row { name: (*name).into(), ..Row::default() }).collect();
        expect![[r#"
            ┌────┬──────────┬────────┬───────┐
            │ id │ name     │ status │ cpu   │
            ├────┼──────────┼────────┼───────┤
            │ 0  │ �[2Jweb� │        │ 0%    │
            │ 0  │ größe    │        │ 0%    │
            │ 0  │ 漢字     │        │ 0%    │
            │ 0  │ 👍       │        │ 0%    │
            └────┴──────────┴────────┴───────┘
        "#]]
        .assert_eq(&by_name(&rows, Style { width: Some(40), color: false }));
    }

    #[test]
    fn an_empty_list_is_a_table_too() {
        expect![[r#"
            ┌────┬──────┬───────────┬─────────┬──────┬───────┬────────┬────┬────────┬───────┬────────┬──────┬──────────┐
            │ id │ name │ namespace │ version │ mode │ pid   │ uptime │ ↺  │ status │ cpu   │ mem    │ user │ watching │
            └────┴──────┴───────────┴─────────┴──────┴───────┴────────┴────┴────────┴───────┴────────┴──────┴──────────┘
        "#]]
        .assert_eq(&by_name(&[], Style::default()));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_name_moves_the_cursor() {
        for rows in [rows(), strange_rows(), vec![]] {
            for width in 0..260 {
                let style = Style { width: Some(width), color: false };
                for text in [by_name(&rows, style), mini(&Sort::BY_ID.of(&rows), style)] {
                    // Narrower is no terminal; a table is one even there.
                    let wide = text.lines().find(|line| text::width(line) > width.max(18));
                    assert_eq!(wide, None, "at {width}:\n{text}");
                    assert!(!text.contains(|letter| letter != '\n' && text::is_unruly(letter)), "{text:?}");
                }
                let table = by_name(&rows, style);
                let widths: Vec<usize> = table.lines().map(text::width).collect();
                assert!(widths.windows(2).all(|two| two[0] == two[1]), "ragged at {width}:\n{table}");
            }
        }
    }

    #[test]
    fn colors_do_not_move_columns() {
        let plain = by_name(&rows(), Style { width: Some(170), color: false });
        let mut colored = by_name(&rows(), Style { width: Some(170), color: true });
        assert_ne!(plain, colored);
        for code in
            ["\x1b[1;36m", "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;34m", "\x1b[1;7m", "\x1b[90m", "\x1b[1m", "\x1b[0m"]
        {
            assert!(colored.contains(code), "{code:?}");
            colored = colored.replace(code, "");
        }
        assert_eq!(plain, colored);
    }

    #[test]
    fn the_short_form_has_a_block_for_each() {
        expect![[r#"
            +--- a-worker-with-a-long-name
            namespace : default
            version : N/A
            pid : 0
            pm3 id : 2
            status : errored
            mode : fork
            restarted : 15
            uptime : 0
            cpu : 0%
            memory usage : 0b
            user : www-data
            watching : no
            last reason : start failed at chdir /srv/app: no such file or directory

            +--- web
            namespace : default
            version : 1.2.3
            pid : 12345
            pm3 id : 0
            status : online
            mode : cluster
            restarted : 0
            uptime : 2m
            cpu : 12.3%
            memory usage : 51.5mb
            user : root
            watching : yes

            +--- web
            namespace : default
            version : 1.2.3
            pid : 12346
            pm3 id : 1
            status : online
            mode : cluster
            restarted : 3
            uptime : 12s
            cpu : 0%
            memory usage : 20.0mb
            user : root
            watching : no
            last reason : memory 23.1M over 20M

        "#]]
        .assert_eq(&mini(&Sort::default().of(&rows()), Style::default()));
    }
}
