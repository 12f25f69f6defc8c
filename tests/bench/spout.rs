//! The app of tests/bench/logs, and the reader of what it writes.
//!
//!   spout SOCKET NAME   connects, says its name, and does what the lines that come say; to each it answers with one line
//!   spout read          reads lines until there are no more, and prints how long each one was on its way, in ns
//!
//! `bulk BYTES MARK` writes lines of 100 bytes, 64 KiB at once, `lines COUNT MARK` so many, each by a write of its own; the
//! last one begins with the mark. `pour MS` writes pages of lines for so long, and answers with the bytes and with the
//! longest time in ns that one write took. `tick` writes a line that says when.

use std::fs::File;
use std::io::{BufRead, BufReader, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LINE: usize = 100;
const BLOCK: usize = 64 << 10;
const PAGE: usize = 4 << 10;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [read] if read == "read" => read_ticks(),
        [socket, name] => obey(UnixStream::connect(socket)?, name),
        _ => panic!("spout SOCKET NAME, or spout read"),
    }
}

fn obey(mut bench: UnixStream, name: &str) -> Result<()> {
    // Past the buffers of the standard library: each write is one.
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    // As many lines as fill a whole number of blocks.
    let text: Vec<u8> = (0..BLOCK / 4).flat_map(line).collect();
    writeln!(bench, "{name}")?;
    let mut orders = BufReader::new(bench.try_clone()?);
    let mut order = String::new();
    while orders.read_line(&mut order)? > 0 {
        let words: Vec<&str> = order.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["bulk", bytes, mark] => bulk(&mut out, &text, number(bytes), mark)?,
            ["lines", count, mark] => lines(&mut out, &text, number(count), mark)?,
            ["pour", ms] => pour(&mut out, &text, Duration::from_millis(number(ms) as u64))?,
            ["tick"] => tick(&mut out)?,
            _ => panic!("{order:?}: expected bulk, lines, pour or tick"),
        };
        writeln!(bench, "{answer}")?;
        order.clear();
    }
    Ok(())
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

/// Of 100 bytes with its end, like what a server says of a request.
fn line(at: usize) -> Vec<u8> {
    let text = format!("GET /api/v1/items/{at:06} HTTP/1.1 200 took 12 ms, from 10.0.0.{}, agent \"curl\"", at % 256);
    format!("{text:.<99}\n").into_bytes()
}

fn last_line(mark: &str) -> Vec<u8> {
    format!("{mark} {:.<width$}\n", "", width = LINE - mark.len() - 2).into_bytes()
}

fn bulk(out: &mut File, text: &[u8], bytes: usize, mark: &str) -> Result<String> {
    for block in text.chunks(BLOCK).cycle().take(bytes / BLOCK) {
        out.write_all(block)?;
    }
    // The blocks may end within a line.
    out.write_all(&[b"\n", last_line(mark).as_slice()].concat())?;
    Ok("done".into())
}

fn lines(out: &mut File, text: &[u8], count: usize, mark: &str) -> Result<String> {
    for line in text.chunks(LINE).cycle().take(count) {
        out.write_all(line)?;
    }
    out.write_all(&last_line(mark))?;
    Ok("done".into())
}

fn pour(out: &mut File, text: &[u8], time: Duration) -> Result<String> {
    let (began, mut bytes, mut longest) = (Instant::now(), 0, Duration::ZERO);
    let mut before = Duration::ZERO;
    for page in text.chunks_exact(PAGE).cycle() {
        out.write_all(page)?;
        let now = began.elapsed();
        (longest, before, bytes) = (longest.max(now - before), now, bytes + page.len());
        if now >= time {
            break;
        }
    }
    out.write_all(b"\n")?;
    Ok(format!("{bytes} {}", longest.as_nanos()))
}

fn tick(out: &mut File) -> Result<String> {
    out.write_all(format!("tick {} .\n", now()).as_bytes())?;
    Ok("done".into())
}

/// Whatever stands before the tick.
fn read_ticks() -> Result<()> {
    let mut input = BufReader::new(std::io::stdin().lock());
    let (mut line, mut took) = (String::new(), Vec::new());
    while input.read_line(&mut line)? > 0 {
        let now = now();
        let tick = line.split_once("tick ").and_then(|(_, rest)| rest.split_once(' '));
        took.extend(tick.map(|(then, _)| now.saturating_sub(then.parse().expect("a time"))));
        line.clear();
    }
    took.iter().for_each(|ns| println!("{ns}"));
    Ok(())
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos()
}
