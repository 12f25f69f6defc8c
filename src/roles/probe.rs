//! `pm3 probe`: looks once whether a run of an app is well, and ends: with 0, or with 1 and one line that says why not.
//! Init starts one for each look, with the ids and the environment of the app, reads that line, and ends the whole group of
//! a probe that takes too long. So what an app answers is read by a process that has no more rights than the app, and by
//! init never. It has no line to init, and no words for people: `pm3 health` has.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};

use crate::sys::signals::SignalFd;
use crate::sys::{self, again, errno, fds, ready, signals, slot};

/// As much is read of an answer: an app that never stops answering is well, too.
const ANSWER_MAX: u64 = 1 << 20;

/// Pieces of a command's output that are read before it is asked again whether it has ended: what it has left behind may
/// never stop.
const PIECES_MAX: usize = 16;

/// Letters of what a command has printed that are told.
const SAID_MAX: usize = 160;

/// The exit code of a probe that was started by hand (sysexits.h: EX_USAGE).
const NOT_BY_HAND: u8 = 64;

/// Does what the words say: `http ADDRESS PATH [SOURCE]`, `tcp ADDRESS [SOURCE]`, `exec PROGRAM [ARG]…`.
pub fn main(words: impl Iterator<Item = OsString>) -> u8 {
    again::take_name(c"pm3-probe");
    let words: Vec<OsString> = words.collect();
    let texts: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let from = |source: Option<&&str>| source.and_then(|source| source.parse::<IpAddr>().ok());
    let target = |text: &str| text.parse::<SocketAddr>();
    let found = match texts.as_slice() {
        ["http", at, path, source @ ..] if let Ok(to) = target(at) => http(to, from(source.first()), path),
        ["tcp", at, source @ ..] if let Ok(to) = target(at) => tcp(to, from(source.first())),
        ["exec", ..] if words.len() > 1 => exec(words.get(1..).unwrap_or_default()),
        _ => {
            tell("this is a part of pm3 that `pm3 init` starts by itself; `pm3 health` asks how apps are");
            return NOT_BY_HAND;
        }
    };
    match found {
        Ok(()) => 0,
        Err(why) => {
            tell(&why);
            1
        }
    }
}

fn tell(why: &str) {
    let _ = writeln!(io::stdout(), "{why}");
}

fn tcp(to: SocketAddr, from: Option<IpAddr>) -> Result<(), String> {
    slot::reach(to, from).map(drop).map_err(|error| format!("tcp {to}: {}", why(&error)))
}

fn http(to: SocketAddr, from: Option<IpAddr>, path: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("http {to}{path}: {}", why(&error));
    let mut stream = slot::reach(to, from).map_err(failed)?;
    let asked =
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: pm3\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).map_err(failed)?;
    // To the end, though the first line is enough: the app shall not find that nobody wanted its answer.
    let mut answer = Head::default();
    match io::copy(&mut stream.take(ANSWER_MAX), &mut answer) {
        Ok(_) => {}
        // What has come counts.
        Err(_) if answer.status().is_some() => {}
        Err(error) => return Err(failed(error)),
    }
    match answer.status() {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("http {to}{path}: status {status}")),
        None => Err(format!("http {to}{path}: what came is no answer in HTTP")),
    }
}

/// The beginning of what is written into it; the rest is nobody's.
#[derive(Default)]
struct Head(Vec<u8>);

/// As long as a beginning has to be.
const HEAD_MAX: usize = 512;

impl Head {
    /// The number of a status line, `HTTP/1.1 200 OK`.
    fn status(&self) -> Option<u16> {
        let line = self.0.split(|byte| *byte == b'\n').next()?;
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        words.next().filter(|version| version.starts_with("HTTP/1."))?;
        words.next().filter(|status| status.len() == 3)?.parse().ok()
    }
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = HEAD_MAX.saturating_sub(self.0.len());
        self.0.extend(bytes.iter().take(room));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command to its end. What it has left behind, which may hold its output still, is not waited for.
fn exec(words: &[OsString]) -> Result<(), String> {
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    let name = program.to_string_lossy();
    let failed = |error: io::Error| format!("exec {name}: {}", why(&error));
    signals::block_all();
    let ends = SignalFd::new().map_err(failed)?;
    let (reader, writer) = fds::pipe().map_err(failed)?;
    let (out, err) = (writer.try_clone().map_err(failed)?, writer);
    let mut child =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(failed)?;
    let mut said = Head::default();
    let mut open = true;
    loop {
        // Its end first, as all that it has printed is there then.
        let ended = child.try_wait().map_err(failed)?;
        open &= drain(&reader, &mut said);
        if let Some(status) = ended {
            return judged(&name, status, &said);
        }
        // An end of file would be told without end.
        let waited = match open {
            true => ready::readable([ends.as_fd(), reader.as_fd()], None).map(drop),
            false => ready::readable([ends.as_fd()], None).map(drop),
        };
        waited.map_err(failed)?;
        ends.read_all(&mut Vec::new()).map_err(failed)?;
    }
}

/// Reads what is there. False: nothing will follow.
fn drain(reader: &OwnedFd, said: &mut Head) -> bool {
    let Ok(mut file) = reader.try_clone().map(std::fs::File::from) else { return false };
    let mut piece = [0; 4096];
    for _ in 0..PIECES_MAX {
        match file.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => {
                let _ = said.write(piece.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

fn judged(name: &str, status: ExitStatus, said: &Head) -> Result<(), String> {
    use std::os::unix::process::ExitStatusExt;
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let text = String::from_utf8_lossy(&said.0);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().take(SAID_MAX).collect();
    Err(if line.is_empty() { format!("exec {name}: {how}") } else { format!("exec {name}: {how}: {line}") })
}

fn why(error: &io::Error) -> Box<str> {
    sys::why(errno::of(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line_alone() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 404 Not Found", Some(404)),
            ("HTTP/2 200\r\n", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 abc\r\n", None),
            ("HTTP/1.1\r\n200 OK", None),
            ("SSH-2.0-OpenSSH_9.6\r\n", None),
            ("\r\nHTTP/1.1 200 OK\r\n", None),
            ("", None),
        ] {
            let mut head = Head::default();
            answer.as_bytes().chunks(3).for_each(|piece| assert_eq!(head.write(piece).unwrap(), piece.len()));
            assert_eq!(head.status(), status, "{answer:?}");
        }
        let mut endless = Head::default();
        (0..100).for_each(|_| drop(endless.write(&[b'x'; 100])));
        assert_eq!((endless.0.len(), endless.status()), (HEAD_MAX, None));
    }
}
