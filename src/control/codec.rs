//! Bytes to lines to meaning, and back. Pure: no socket, no clock; what it holds is bounded whatever comes.
//!
//! A [`Reader`] is given bytes as they arrive and gives requests (init's side) or replies (the client's side);
//! [`request_line`] and [`reply_line`] are its counterparts.

use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use serde::{Deserialize, Serialize, de};

use super::limits::{ADMIN_REQUEST_MAX, REPLY_MAX, REQUEST_MAX};
use super::role::{Heard, Tell};
use super::{Problem, Refusal, Reply, Request, VERSIONS};
use crate::supervisor::spec::Right;

/// What came is not the protocol. Nothing that follows it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No newline within this many bytes.
    TooLong(usize),
    /// The first line has no version.
    NoVersion,
    /// A version that this pm3 does not speak.
    Version(u32),
    /// Not one of the messages; why not, as the JSON reader says it.
    Unreadable(Box<str>),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooLong(max) => write!(f, "a line is longer than {max} bytes"),
            Malformed::NoVersion => f.write_str("the first line carries no version"),
            Malformed::Version(theirs) => {
                write!(f, "version {theirs} of the protocol is not spoken here, only ")?;
                VERSIONS.iter().enumerate().try_for_each(|(at, ours)| {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{ours}")
                })
            }
            Malformed::Unreadable(why) => write!(f, "not a message of the protocol: {why}"),
        }
    }
}

impl Malformed {
    /// The one reply that a client gets for it.
    pub fn refusal(&self) -> Refusal {
        let (problem, hint) = match self {
            Malformed::Version(_) => (Problem::Version, "use the client of the release that is running"),
            Malformed::TooLong(_) | Malformed::NoVersion | Malformed::Unreadable(_) => {
                (Problem::Garbled, r#"send one JSON object a line, as {"version":1,"ask":"list"}"#)
            }
        };
        Refusal { problem, why: self.to_string().into(), hint: hint.into() }
    }
}

/// Makes messages of a stream of bytes. Call [`next`](Reader::next) until it gives none, then read at most
/// [`room`](Reader::room) bytes and [`push`](Reader::push) them. After an error nothing more comes of it.
#[derive(Debug)]
pub struct Reader<One> {
    bytes: Vec<u8>,
    /// Bytes before `start` are used up; those from there to `searched` hold no newline.
    start: usize,
    searched: usize,
    /// The longest line, without its newline.
    max: usize,
    /// The first line was good.
    greeted: bool,
    message: PhantomData<One>,
}

/// A line of a client's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Asked {
    pub ask: Request,
    /// It wants to hear what happens before the reply.
    #[serde(default)]
    pub progress: bool,
}

impl Reader<Asked> {
    /// Requests of a client with this right.
    pub fn of_requests(right: Right) -> Reader<Asked> {
        Reader::new(request_max(right))
    }
}

impl Reader<Reply> {
    pub fn of_replies() -> Reader<Reply> {
        Reader::new(REPLY_MAX)
    }
}

impl Reader<Heard> {
    /// Of what init tells and replies to one of its roles.
    pub fn of_roles() -> Reader<Heard> {
        Reader::new(REPLY_MAX)
    }
}

impl<One: Message> Reader<One> {
    fn new(max: usize) -> Reader<One> {
        Reader { bytes: Vec::new(), start: 0, searched: 0, max, greeted: false, message: PhantomData }
    }

    /// How many bytes of a message are there that has not wholly come.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// How many bytes `push` can take. Never 0 after `next` gave none.
    pub fn room(&self) -> usize {
        // One byte more than the longest line: its newline, or what shows that it is too long.
        (self.max + 1).saturating_sub(self.held())
    }

    /// Adds bytes that have arrived, at most `room()` of them; what is more than that is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if all of its line is there.
    ///
    /// # Errors
    /// The line is too long, is no message, or is the first and carries no version that is spoken here.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end for good when it gives none")]
    pub fn next(&mut self) -> Result<Option<One>, Malformed> {
        let unseen = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(length) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return if self.room() == 0 { Err(Malformed::TooLong(self.max)) } else { Ok(None) };
        };
        let end = self.searched + length;
        let line = self.bytes.get(self.start..end).unwrap_or_default();
        let message = read(line, &mut self.greeted)?;
        self.start = end + 1;
        self.searched = self.start;
        if self.start == self.bytes.len() {
            // Idle connections hold no memory.
            (self.bytes, self.start, self.searched) = (Vec::new(), 0, 0);
        }
        Ok(Some(message))
    }
}

/// What a line is about: it stands there under the word that says who speaks.
pub trait Message: Sized {
    /// Takes it out of a line.
    ///
    /// # Errors
    /// The line is another's, or no JSON.
    fn take(line: &[u8]) -> serde_json::Result<Self>;
}

impl Message for Asked {
    fn take(line: &[u8]) -> serde_json::Result<Asked> {
        /// As much as a person may have got right.
        #[derive(Deserialize)]
        struct Word {
            ask: Option<Box<str>>,
        }
        serde_json::from_slice(line).map_err(|error: serde_json::Error| match serde_json::from_slice(line) {
            Ok(Word { ask: None }) => de::Error::custom("it asks for nothing: there is no `ask` in it"),
            Ok(Word { ask: Some(word) }) if !error.to_string().starts_with("unknown") => de::Error::custom(format_args!(
                "`{word}` needs more than its word, as {{\"operate\":{{\"verb\":\"stop\",\"targets\":[\"web\"]}}}} does"
            )),
            Ok(_) | Err(_) => error,
        })
    }
}

impl Message for Reply {
    fn take(line: &[u8]) -> serde_json::Result<Reply> {
        #[derive(Deserialize)]
        struct Replied {
            reply: Reply,
        }
        serde_json::from_slice(line).map(|Replied { reply }| reply)
    }
}

impl Message for Heard {
    fn take(line: &[u8]) -> serde_json::Result<Heard> {
        #[derive(Deserialize)]
        struct Either {
            tell: Option<Tell>,
            reply: Option<Reply>,
        }
        let Either { tell, reply } = serde_json::from_slice(line)?;
        let heard = tell.map(Heard::Told).or(reply.map(Heard::Replied));
        heard.ok_or_else(|| de::Error::missing_field("tell"))
    }
}

/// What every line may carry, and the first must.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Greeting {
    version: Option<u32>,
}

fn read<One: Message>(line: &[u8], greeted: &mut bool) -> Result<One, Malformed> {
    let unreadable = |error: serde_json::Error| Malformed::Unreadable(error.to_string().into());
    match serde_json::from_slice(line).map_err(unreadable)? {
        Greeting { version: Some(version) } if !VERSIONS.contains(&version) => return Err(Malformed::Version(version)),
        Greeting { version: None } if !*greeted => return Err(Malformed::NoVersion),
        Greeting { .. } => *greeted = true,
    }
    One::take(line).map_err(unreadable)
}

/// How long a line a client with this right may send.
fn request_max(right: Right) -> usize {
    match right {
        Right::View | Right::Operate => REQUEST_MAX,
        Right::Admin => ADMIN_REQUEST_MAX,
    }
}

/// A request as a line, newline included.
///
/// # Errors
/// It is longer than a server reads of a client that may ask this.
pub fn request_line(request: &Request) -> Result<Vec<u8>, Malformed> {
    asking("ask", request)
}

/// The same for a client that wants to hear what happens before the reply.
///
/// # Errors
/// As of [`request_line`].
pub fn followed_line(request: &Request) -> Result<Vec<u8>, Malformed> {
    asking(r#"progress":true,"ask"#, request)
}

fn asking(words: &str, request: &Request) -> Result<Vec<u8>, Malformed> {
    let max = request_max(request.needs());
    line(words, request, max).ok_or(Malformed::TooLong(max))
}

/// A reply as a line, newline included. One that is longer than a client reads becomes a refusal that says so.
pub fn reply_line(reply: &Reply) -> Vec<u8> {
    line("reply", reply, REPLY_MAX).unwrap_or_else(|| {
        let refusal = Refusal {
            problem: Problem::TooLong,
            why: format!("the answer is longer than {REPLY_MAX} bytes").into(),
            hint: "ask for less at once".into(),
        };
        line("reply", &Reply::Error(refusal), REPLY_MAX).unwrap_or_default()
    })
}

/// What init tells a role as a line, newline included. None: it is longer than a role reads.
pub fn tell_line(tell: &Tell) -> Option<Vec<u8>> {
    line("tell", tell, REPLY_MAX)
}

fn line(word: &str, message: &impl Serialize, max: usize) -> Option<Vec<u8>> {
    let version = VERSIONS.first()?;
    let mut out = Capped { bytes: Vec::new(), max };
    write!(out, r#"{{"version":{version},"{word}":"#).ok()?;
    serde_json::to_writer(&mut out, message).ok()?;
    out.write_all(b"}").ok()?;
    out.bytes.push(b'\n');
    // It may be kept for a while: growing has doubled what is needed.
    out.bytes.shrink_to_fit();
    Some(out.bytes)
}

/// Refuses what goes beyond `max`, so that no list makes pm3 grow without bound.
struct Capped {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::control::Row;
    use crate::supervisor::event::{Outcome, Rollout, Verb};

    /// All messages of `bytes`, fed in pieces of `step`, and how it ended.
    fn read_all(bytes: &[u8], step: usize) -> (Vec<Request>, Option<Malformed>) {
        let mut reader = Reader::of_requests(Right::Operate);
        let mut found = vec![];
        for piece in bytes.chunks(step) {
            let mut piece = piece;
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(reader.room()));
                reader.push(now);
                piece = later;
                loop {
                    match reader.next() {
                        Ok(Some(asked)) => found.push(asked.ask),
                        Ok(None) => break,
                        Err(malformed) => return (found, Some(malformed)),
                    }
                }
                assert!(reader.room() > 0, "a reader that wants more has room for it");
                assert!(reader.bytes.len() <= REQUEST_MAX + 1);
            }
        }
        (found, None)
    }

    fn operate(verb: Verb, targets: &[&str]) -> Request {
        Request::Operate {
            verb,
            targets: targets.iter().map(|target| (*target).into()).collect(),
            environ: None,
            how: Rollout::default(),
        }
    }

    #[test]
    fn lines_mean_requests_however_they_are_cut() {
        let text = concat!(
            r#"{"version":1,"ask":"ping"}"#,
            "\n",
            r#"  {"ask":"list", "unknown": [1, {"a": null}]}"#,
            "\r\n",
            r#"{"ask":{"operate":{"targets":["web","3"],"verb":"restart"}},"version":1}"#,
            "\n",
        );
        for step in 1..text.len() {
            let (found, malformed) = read_all(text.as_bytes(), step);
            assert_eq!(found, [Request::Ping, Request::List, operate(Verb::Restart, &["web", "3"])]);
            assert_eq!(malformed, None);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        let cases = [
            ("\n", "not a message of the protocol: EOF while parsing a value at line 1 column 0"),
            ("hello\n", "not a message of the protocol: expected value at line 1 column 1"),
            ("GET / HTTP/1.1\r\n", "not a message of the protocol: expected value at line 1 column 1"),
            ("[]\n", "not a message of the protocol: invalid length 0, expected an object at line 1 column 2"),
            ("{}\n", "the first line carries no version"),
            (r#"{"ask":"list"}"#, "the first line carries no version"),
            (r#"{"version":2,"ask":"list"}"#, "version 2 of the protocol is not spoken here, only 1"),
            (
                r#"{"version":-1,"ask":"list"}"#,
                "not a message of the protocol: invalid value: integer `-1`, expected u32 at line 1 column 13",
            ),
            (r#"{"version":1}"#, "not a message of the protocol: it asks for nothing: there is no `ask` in it"),
            (
                r#"{"version":1,"ask":"scale"}"#,
                r#"not a message of the protocol: `scale` needs more than its word, as {"operate":{"verb":"stop","targets":["web"]}} does"#,
            ),
            (
                r#"{"version":1,"ask":"lst"}"#,
                "not a message of the protocol: unknown variant `lst`, expected one of `ping`, `list`, `describe`, `operate`, `apply`, `scale`, `signal`, `send`, `changed`, `ready`, `logs`, `flush`, `reload-logs`, `quit` at line 1 column 24",
            ),
            (
                r#"{"version":1,"ask":{"operate":{"verb":"start"}}}"#,
                "not a message of the protocol: missing field `targets` at line 1 column 46",
            ),
        ];
        for (text, why) in cases {
            let (found, malformed) = read_all(format!("{}\n", text.trim_end_matches('\n')).as_bytes(), 7);
            assert_eq!(found, [], "{text}");
            assert_eq!(malformed.map(|malformed| malformed.to_string()).as_deref(), Some(why), "{text}");
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_said_and_no_longer() {
        let fill = |length: usize| {
            let text = r#"{"version":1,"ask":"ping"}"#;
            format!("{text}{}\n", " ".repeat(length - text.len()))
        };
        assert_eq!(read_all(fill(REQUEST_MAX).as_bytes(), 1000), (vec![Request::Ping], None));
        for (right, max) in [(Right::View, REQUEST_MAX), (Right::Admin, ADMIN_REQUEST_MAX)] {
            let mut reader = Reader::of_requests(right);
            reader.push(fill(max).as_bytes());
            assert_eq!(reader.next(), Ok(Some(Asked { ask: Request::Ping, progress: false })));
            assert_eq!((reader.held(), reader.bytes.capacity()), (0, 0));
            reader.push(fill(max + 1).as_bytes());
            assert_eq!((reader.held(), reader.next()), (max + 1, Err(Malformed::TooLong(max))));
        }
        assert_eq!(read_all(fill(REQUEST_MAX + 1).as_bytes(), 1000).1, Some(Malformed::TooLong(REQUEST_MAX)));
    }

    #[test]
    fn an_endless_line_is_refused_without_keeping_it() {
        let mut reader = Reader::of_requests(Right::Operate);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            reader.push(&piece);
            assert_eq!(reader.next(), Err(Malformed::TooLong(REQUEST_MAX)));
            assert!(reader.bytes.capacity() <= 2 * (REQUEST_MAX + 1));
        }
    }

    #[test]
    fn each_request_needs_its_right() {
        let needs = |line: &str| {
            let mut reader = Reader::of_requests(Right::Admin);
            reader.push(format!("{{\"version\":1,\"ask\":{line}}}\n").as_bytes());
            reader.next().unwrap().unwrap().ask.needs()
        };
        let lines = [
            (Right::View, r#""ping""#),
            (Right::View, r#""list""#),
            (Right::View, r#"{"describe":{}}"#),
            (Right::View, r#"{"logs":{}}"#),
            // Refused to all but pm3's own processes.
            (Right::View, r#"{"ready":{"runs":[1,2]}}"#),
            (Right::Operate, r#"{"operate":{"verb":"restart","targets":["a"]}}"#),
            (Right::Operate, r#"{"scale":{"target":"a","to":{"up":1}}}"#),
            (Right::Operate, r#"{"signal":{"sig":9,"targets":["a"]}}"#),
            (Right::Operate, r#"{"send":{"target":"a","text":"t"}}"#),
            (Right::Operate, r#"{"changed":{"app":"a","path":"p","at":1}}"#),
            (Right::Operate, r#"{"flush":{}}"#),
            (Right::Operate, r#""reload-logs""#),
            (Right::Admin, r#"{"describe":{"secrets":true}}"#),
            (Right::Admin, r#"{"operate":{"verb":"delete","targets":["a"]}}"#),
            (Right::Admin, r#"{"operate":{"verb":"restart","targets":["a"],"environ":[["LD_PRELOAD","x"]]}}"#),
            (Right::Admin, r#"{"apply":{"verb":"start","apps":[]}}"#),
            (Right::Admin, r#""quit""#),
        ];
        for (right, line) in lines {
            assert_eq!(needs(line), right, "{line}");
        }
    }

    #[test]
    fn a_text_that_is_no_utf_8_is_no_request() {
        let mut reader = Reader::of_requests(Right::Admin);
        reader.push(b"{\"version\":1,\"ask\":{\"send\":{\"target\":\"a\",\"text\":\"\xff\"}}}\n");
        let why = "not a message of the protocol: invalid unicode code point at line 1 column 50";
        assert_eq!(reader.next().unwrap_err().to_string(), why);
    }

    #[test]
    fn an_idle_reader_holds_no_memory() {
        let mut reader = Reader::of_requests(Right::Operate);
        reader.push(&request_line(&operate(Verb::Stop, &["all"])).unwrap());
        assert!(reader.next().unwrap().is_some());
        assert_eq!(reader.bytes.capacity(), 0);
    }

    #[test]
    fn every_request_and_reply_survives_the_way() {
        for request in [Request::Ping, Request::List, operate(Verb::Start, &["a\n\"b\"", "ü", "all"])] {
            let line = request_line(&request).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read_all(&line, line.len()), (vec![request], None));
        }
        let refusal = Refusal { problem: Problem::Busy, why: "why".into(), hint: "".into() };
        for reply in [
            Reply::Pong { release: "0.1.0".into(), pid: 1 },
            Reply::List { rows: vec![Row::default(), Row { cpu: Some(1.5), limit: Some(1), ..Row::default() }] },
            Reply::Outcome(Outcome { done: vec!["web".into()], failed: vec!["no".into()], said: vec!["so".into()] }),
            Reply::Error(refusal),
        ] {
            let mut reader = Reader::of_replies();
            reader.push(&reply_line(&reply));
            assert_eq!(reader.next(), Ok(Some(reply)));
            assert_eq!(reader.next(), Ok(None));
        }
    }

    #[test]
    fn a_role_tells_what_it_is_told_from_what_it_is_replied() {
        let reply = Reply::Pong { release: "0.1.0".into(), pid: 1 };
        let mut reader = Reader::of_roles();
        reader.push(&tell_line(&Tell::Finish).unwrap());
        reader.push(&reply_line(&reply));
        reader.push(b"{\"ask\":\"ping\"}\n");
        assert_eq!(reader.next(), Ok(Some(Heard::Told(Tell::Finish))));
        assert_eq!(reader.next(), Ok(Some(Heard::Replied(reply))));
        assert!(matches!(reader.next(), Err(Malformed::Unreadable(why)) if why.contains("missing field `tell`")));
    }

    #[test]
    fn lines_read_as_the_documentation_shows_them() {
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        assert_eq!(text(request_line(&Request::List).unwrap()), "{\"version\":1,\"ask\":\"list\"}\n");
        assert_eq!(
            text(request_line(&operate(Verb::Stop, &["web"])).unwrap()),
            "{\"version\":1,\"ask\":{\"operate\":{\"verb\":\"stop\",\"targets\":[\"web\"]}}}\n"
        );
        assert_eq!(
            text(reply_line(&Reply::Outcome(Outcome { done: vec!["web".into()], ..Outcome::default() }))),
            "{\"version\":1,\"reply\":{\"outcome\":{\"done\":[\"web\"],\"failed\":[]}}}\n"
        );
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_one_that_says_so() {
        let row = Row { name: "x".repeat(1 << 20).into(), ..Row::default() };
        let line = reply_line(&Reply::List { rows: vec![row; 5] });
        let mut reader = Reader::of_replies();
        reader.push(&line);
        let Ok(Some(Reply::Error(refusal))) = reader.next() else { panic!("not an error") };
        assert_eq!(refusal.problem, Problem::TooLong);
        assert!(request_line(&operate(Verb::Stop, &["x".repeat(REQUEST_MAX).as_str()])).is_err());
    }

    #[test]
    fn problems_of_later_releases_are_understood() {
        let mut reader = Reader::of_replies();
        reader.push(b"{\"version\":1,\"reply\":{\"error\":{\"problem\":\"flood\",\"why\":\"w\",\"more\":1}}}\n");
        let expected = Refusal { problem: Problem::Other, why: "w".into(), hint: "".into() };
        assert_eq!(reader.next(), Ok(Some(Reply::Error(expected))));
    }

    /// A xorshift generator: enough to vary bytes, and the same on every run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow() {
        let good = request_line(&operate(Verb::Restart, &["web", "worker", "0"])).unwrap();
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        let (mut refused, mut read) = (0, 0);
        for round in 0..20_000 {
            let mut bytes = good.repeat(1 + round % 3);
            if round % 5 == 0 {
                bytes = (0..random(&mut seed) % 300).map(|_| random(&mut seed) as u8).collect();
            }
            for _ in 0..random(&mut seed) % 4 {
                let at = random(&mut seed) as usize % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random(&mut seed) as u8;
                }
            }
            let (found, malformed) = read_all(&bytes, 1 + random(&mut seed) as usize % 80);
            read += found.len();
            refused += usize::from(malformed.is_some());
        }
        assert!(refused > 1_000 && read > 1_000, "both ways are taken: {refused} refused, {read} read");
    }
}
