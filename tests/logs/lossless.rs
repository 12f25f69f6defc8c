//! Loggers that are killed at full rate, fifty times: what `lossless` promises is counted to the byte, and so is what is lost
//! without it. The test is init here, as far as a logger can tell, so that nobody waits between two loggers.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pm3::control::codec;
use pm3::control::role::{Known, LogFile, Tell};
use pm3::supervisor::event::{InstanceId, RunId};
use pm3::supervisor::spec::{LogMode, LogRotate};
use pm3::sys::{fds, socket};

use crate::common::deeds::poured;
use crate::common::dir::Dir;
use crate::common::{PATIENCE, PM3};
use crate::until;

const KILLS: usize = 50;

/// Bytes of a line as the app writes it.
const LINE: usize = 128;

/// What a logger reads at once, in lines, with those that are torn at both ends.
const PIECE: usize = (64 << 10) / LINE + 2;

/// A logger at work.
struct Logger {
    child: Child,
    line: UnixStream,
}

impl Logger {
    fn tell(&self, tell: &Tell, fds: &[BorrowedFd<'_>]) {
        let line = codec::tell_line(tell).unwrap();
        assert_eq!(socket::send(&self.line, &line, fds).unwrap(), line.len());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish(mut self) {
        self.tell(&Tell::Finish, &[]);
        // At the end of its line init hears that it is gone, which is bounded.
        self.line.set_read_timeout(Some(PATIENCE)).unwrap();
        self.line.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// A run, as init holds it.
struct Run {
    id: RunId,
    instance: InstanceId,
    ends: [OwnedFd; 2],
    over: bool,
}

/// All that init has to tell a logger.
struct Init {
    journal: Option<[OwnedFd; 3]>,
    known: Vec<Known>,
    runs: Vec<Run>,
    stdout: Option<OwnedFd>,
}

impl Init {
    fn new(known: Vec<Known>, stdout: Option<OwnedFd>) -> Init {
        let is_kept = known.iter().any(|known| known.lossless);
        let journal = is_kept.then(|| {
            let (reader, writer) = fds::pipe().unwrap();
            [fds::in_memory(c"journal").unwrap(), reader, writer]
        });
        Init { journal, known, runs: Vec::new(), stdout }
    }

    /// Makes a run's pipes; where its stdout is written to.
    fn run(&mut self, instance: u32) -> File {
        let ((out, writer), (err, _)) = (fds::pipe().unwrap(), fds::pipe().unwrap());
        let id = RunId(1 + self.runs.len() as u64);
        self.runs.push(Run { id, instance: InstanceId(instance), ends: [out, err], over: false });
        writer.into()
    }

    fn logger(&self) -> Logger {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(PM3);
        command
            .arg("logger")
            .stdin(OwnedFd::from(theirs))
            .env("TZ", "UTC")
            .env_remove("PM3_LOG")
            .env_remove("RUST_LOG");
        let stdout = self.stdout.as_ref().map(|stdout| stdout.try_clone().unwrap());
        command.stdout(stdout.map_or_else(Stdio::null, Stdio::from));
        let logger = Logger { child: command.spawn().unwrap(), line: ours };
        if let Some(journal) = &self.journal {
            logger.tell(&Tell::Journal, &journal.each_ref().map(AsFd::as_fd));
        }
        logger.tell(&Tell::Usual { mode: LogMode::Raw }, &[]);
        for known in &self.known {
            logger.tell(&Tell::Know(Box::new(known.clone())), &[]);
        }
        for run in self.runs.iter().filter(|run| !(run.over && run.ends.iter().all(fds::is_drained))) {
            self.open(&logger, run);
        }
        if self.journal.is_some() {
            logger.tell(&Tell::Briefed, &[]);
        }
        logger
    }

    fn open(&self, logger: &Logger, run: &Run) {
        let open = Tell::Open { run: run.id, id: run.instance, pid: 12, ready: None };
        logger.tell(&open, &run.ends.each_ref().map(AsFd::as_fd));
        if run.over {
            logger.tell(&Tell::Over { run: run.id }, &[]);
        }
    }
}

/// Writes numbered lines as fast as they are taken, in pieces that do not end with lines, until it is told to stop. How many
/// it were.
fn writer(mut pipe: File, mut next: usize, stop: &'static AtomicBool) -> JoinHandle<(File, usize)> {
    thread::spawn(move || {
        let mut piece = 1;
        while !stop.load(Ordering::Relaxed) {
            let lines: Vec<u8> = (next..next + 300).flat_map(poured).collect();
            next += 300;
            let mut rest = &lines[..];
            while !rest.is_empty() {
                piece = piece * 31 % 60_013;
                let (now, later) = rest.split_at(rest.len().min(piece));
                pipe.write_all(now).unwrap();
                rest = later;
            }
        }
        (pipe, next)
    })
}

/// A form of output, and where it goes.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: LogMode,
    date: bool,
    lossless: bool,
    rotate: bool,
}

fn known(instance: u32, case: Case, out: Option<&Path>) -> Known {
    let file = |path: &Path| LogFile { path: path.to_str().unwrap().into(), ..LogFile::default() };
    let rotate = LogRotate { size: 100_000, keep: 1_000, ..LogRotate::default() };
    Known {
        id: InstanceId(instance),
        app: "a".into(),
        mode: case.mode,
        date: case.date.then(|| "YYYY-MM-DD HH:mm:ss.SSS".into()),
        memory: 64 << 10,
        rotate: case.rotate.then(|| Box::new(rotate)),
        lossless: case.lossless,
        out: out.map(file),
        ..Known::default()
    }
}

/// The number of a line as the app has written it.
fn number(text: &[u8]) -> Option<usize> {
    let number = std::str::from_utf8(text.get(..12)?).ok()?.trim().parse().ok()?;
    (text.len() == LINE - 1 && poured(number).starts_with(text)).then_some(number)
}

/// Whose line it is, and its number; None: it is none as it was written.
fn read(line: &[u8], case: Case) -> Option<(u32, usize)> {
    let (mut rest, mut instance) = (line, 0);
    if case.mode == LogMode::Json {
        let object: serde_json::Value = serde_json::from_slice(line).ok()?;
        return Some((object["id"].as_u64()?.try_into().ok()?, number(object["message"].as_str()?.as_bytes())?));
    }
    if case.mode == LogMode::Prefix {
        instance = u32::from(rest.first()?.checked_sub(b'0')?);
        rest = rest.get(1..)?.strip_prefix(b"|a | ")?;
    }
    if case.date {
        let (date, text) = rest.split_at_checked("2026-01-02 03:04:05.678: ".len())?;
        rest = text;
        date.ends_with(b": ").then_some(())?;
    }
    Some((instance, number(rest)?))
}

/// All that came of `a.log` in a directory, in its order.
fn contents(dir: &Dir) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort_by_key(|path| (path.ends_with("a.log"), path.clone()));
    names.iter().flat_map(|path| fs::read(path).unwrap()).collect()
}

fn length(dir: &Dir) -> usize {
    let entries = fs::read_dir(dir.path()).unwrap();
    // One may be renamed meanwhile.
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|found| found.len() as usize).sum()
}

/// Kills one logger after the other while these instances write; `progress`: bytes that have arrived. How many lines each
/// has written.
fn kill_again_and_again(init: &mut Init, instances: u32, progress: &dyn Fn() -> usize) -> Vec<usize> {
    // One at a time: each takes all there is of the machine, and other tests are to have some.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stop: &'static AtomicBool = Box::leak(Box::default());
    let writers: Vec<_> = (0..instances).map(|instance| writer(init.run(instance), 0, stop)).collect();
    let mut step = 1;
    for _ in 0..KILLS {
        let (logger, before) = (init.logger(), progress());
        step = step * 48_271 % 0x7fff_ffff;
        until("something arrives", || progress() > before + step % 100_000);
        logger.kill();
    }
    stop.store(true, Ordering::Relaxed);
    let last = init.logger();
    let counts = writers.into_iter().map(|writer| writer.join().unwrap().1).collect();
    last.finish();
    counts
}

/// Into a file: what arrives is each line once and in its order; without `lossless` some are missing, and no more than a
/// piece each time.
fn into_a_file(case: Case, instances: u32) {
    let dir = Dir::new();
    let file = dir.at("a.log");
    let known = (0..instances).map(|instance| known(instance, case, Some(Path::new(&file)))).collect();
    let mut init = Init::new(known, None);
    let counts = kill_again_and_again(&mut init, instances, &|| length(&dir));
    let text = contents(&dir);
    let (mut next, mut there, mut torn) = (vec![0; counts.len()], 0, 0);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some((instance, number)) = read(line, case) else {
            assert!(!case.lossless, "{case:?}: torn: {}", String::from_utf8_lossy(line));
            torn += 1;
            continue;
        };
        let next = &mut next[instance as usize];
        let is_due = if case.lossless { number == *next } else { number >= *next };
        assert!(is_due, "{case:?}: {number} of {instance} comes when {next} is due");
        *next = number + 1;
        there += 1;
    }
    let written: usize = counts.iter().sum();
    assert!(torn <= 2 * KILLS, "{case:?}: {torn} torn lines");
    if case.lossless {
        assert_eq!(next, counts, "{case:?}");
        assert!(text.ends_with(b"\n") && !text.windows(2).any(|pair| pair == b"\n\n"), "{case:?}");
    } else {
        assert!(written - there <= KILLS * PIECE, "{case:?}: {there} of {written}");
    }
    assert!(there > KILLS, "{case:?}: {there} lines are no proof");
}

/// Into a pipe: what has no form arrives as it is; of what has one, a piece may come twice.
fn into_a_pipe(case: Case) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let count: &'static AtomicUsize = Box::leak(Box::default());
    let collected = thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let some = reader.read(&mut chunk).unwrap();
            all.extend_from_slice(&chunk[..some]);
            count.fetch_add(some, Ordering::Relaxed);
            if some == 0 {
                return all;
            }
        }
    });
    let mut init = Init::new(vec![known(0, case, None)], Some(writer.into()));
    let counts = kill_again_and_again(&mut init, 1, &|| count.load(Ordering::Relaxed));
    drop(init);
    let text = collected.join().unwrap();
    if case.lossless && case.mode == LogMode::Raw && !case.date {
        assert_eq!(text.len(), counts[0] * LINE);
        assert!(text.chunks(LINE).enumerate().all(|(at, line)| line == poured(at).as_slice()));
        return;
    }
    let (mut next, mut there, mut again, mut torn) = (0, 0, 0, 0);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some((_, number)) = read(line, case) else {
            torn += 1;
            continue;
        };
        if case.lossless {
            assert!(number <= next && next - number <= PIECE, "{case:?}: {number} comes when {next} is due");
            again += usize::from(number < next);
        } else {
            assert!(number >= next, "{case:?}: {number} comes when {next} is due");
        }
        there += 1;
        next = next.max(number + 1);
    }
    assert!(torn <= KILLS && again <= KILLS * PIECE, "{case:?}: {torn} torn, {again} again");
    if case.lossless {
        assert_eq!(next, counts[0], "{case:?}");
    } else {
        assert!(counts[0] - there <= KILLS * (PIECE + 1), "{case:?}: {there} of {}", counts[0]);
    }
}

const RAW: Case = Case { mode: LogMode::Raw, date: false, lossless: true, rotate: false };
const PREFIX: Case = Case { mode: LogMode::Prefix, ..RAW };
const JSON: Case = Case { mode: LogMode::Json, ..RAW };

#[test]
fn nothing_is_lost_or_doubled_in_a_file_in_any_form() {
    for case in [RAW, PREFIX, JSON, Case { date: true, ..RAW }, Case { date: true, ..PREFIX }] {
        into_a_file(case, 1);
    }
}

#[test]
fn nothing_is_lost_or_doubled_in_files_that_are_rotated_meanwhile() {
    for case in [RAW, PREFIX, JSON] {
        into_a_file(Case { rotate: true, ..case }, 1);
    }
}

#[test]
fn nothing_is_lost_or_doubled_in_a_file_that_several_write_to() {
    into_a_file(PREFIX, 3);
    into_a_file(Case { rotate: true, ..JSON }, 2);
}

#[test]
fn nothing_is_lost_in_a_pipe_and_raw_output_is_not_doubled() {
    for case in [RAW, PREFIX, JSON, Case { date: true, ..RAW }] {
        into_a_pipe(case);
    }
}

#[test]
fn without_it_a_piece_is_lost_and_nothing_is_doubled() {
    for case in [RAW, PREFIX, JSON, Case { date: true, ..RAW }] {
        let case = Case { lossless: false, ..case };
        into_a_file(case, 1);
        into_a_pipe(case);
    }
}

#[test]
fn runs_that_crash_in_a_line_end_it_and_lose_nothing() {
    const LINES: usize = 200;
    for case in [PREFIX, Case { date: true, ..RAW }, Case { rotate: true, ..PREFIX }] {
        let dir = Dir::new();
        let file = dir.at("a.log");
        let mut init = Init::new(vec![known(0, case, Some(Path::new(&file)))], None);
        for at in 0..KILLS {
            let (logger, before) = (init.logger(), length(&dir));
            let mut pipe = init.run(0);
            init.open(&logger, init.runs.last().unwrap());
            let lines: Vec<u8> = (at * LINES..(at + 1) * LINES).flat_map(poured).collect();
            pipe.write_all(&lines).unwrap();
            // It dies with a line that has no end.
            pipe.write_all(b"half").unwrap();
            drop(pipe);
            let run = init.runs.last_mut().unwrap();
            run.over = true;
            logger.tell(&Tell::Over { run: run.id }, &[]);
            if at % 2 == 0 {
                until("something arrives", || length(&dir) > before);
            }
            logger.kill();
        }
        init.logger().finish();
        let text = contents(&dir);
        let (mut of_run, mut halves) = ([0; KILLS], 0);
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match read(line, case) {
                Some((_, number)) => {
                    // Those of a run are in their order; of the next one some may come before the last of them.
                    let (run, at) = (number / LINES, number % LINES);
                    assert_eq!(at, of_run[run], "{case:?}: {run}");
                    of_run[run] += 1;
                }
                None => {
                    assert!(line.ends_with(b"half"), "{case:?}: {}", String::from_utf8_lossy(line));
                    halves += 1;
                }
            }
        }
        assert_eq!((of_run, halves), ([LINES; KILLS], KILLS), "{case:?}");
    }
}
