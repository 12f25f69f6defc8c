//! The record by which a child tells the step that failed: one packet on the status socket, read by
//! `outcome`. It crosses no version and no machine, so its form is private to this file.

use super::explained;
use crate::supervisor::event::{Failure, Stage};
use crate::sys::errno;

/// A record fits into any socket's buffer.
pub(super) const MAX: usize = 4096;

/// A name longer than this is cut; a record holds two.
const NAME_MAX: usize = 2000;

/// stage, finding, errno, length of the object.
const HEAD: usize = 8;

/// What a child says.
#[derive(Debug)]
pub(super) enum Said {
    Failed(Failure),
    /// Its listener comes along.
    Intercepted,
    NotIntercepted(i32),
}

/// In the place of a stage: the child's calls are held, or not for the errno that follows.
const INTERCEPTED: u8 = 0xf0;
const NOT_INTERCEPTED: u8 = 0xf1;

/// That the child's calls are held, or not for this errno.
pub(super) fn intercepted(refused: Option<i32>) -> [u8; 5] {
    let [e0, e1, e2, e3] = refused.unwrap_or(0).to_ne_bytes();
    [if refused.is_none() { INTERCEPTED } else { NOT_INTERCEPTED }, e0, e1, e2, e3]
}

/// What the child failed at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble<'a> {
    pub(super) stage: Stage,
    pub(super) errno: i32,
    /// What the step was about, in the child's memory.
    pub(super) object: &'a [u8],
}

/// What a closer look found, where the errno alone misleads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Finding {
    /// The errno says it.
    Nothing,
    /// None of several candidates is there.
    NotInPath,
    /// The file is there, the program that its `#!` line names is not.
    NoInterpreter,
    /// The file is there, the dynamic loader that it asks for is not.
    NoLoader,
    /// The file is text without a `#!` line.
    NoHashBang,
    Directory,
    /// An output file is a symbolic link.
    Link,
}

const STAGES: [Stage; 19] = [
    Stage::Prepare,
    Stage::Pipe,
    Stage::Listen,
    Stage::Fork,
    Stage::Session,
    Stage::Stdin,
    Stage::Stdout,
    Stage::Stderr,
    Stage::Limits,
    Stage::Nice,
    Stage::OomScore,
    Stage::Cgroup,
    Stage::User,
    Stage::Group,
    Stage::Ids,
    Stage::NoNewPrivs,
    Stage::Intercept,
    Stage::Chdir,
    Stage::Exec,
];

const FINDINGS: [Finding; 7] = [
    Finding::Nothing,
    Finding::NotInPath,
    Finding::NoInterpreter,
    Finding::NoLoader,
    Finding::NoHashBang,
    Finding::Directory,
    Finding::Link,
];

/// Writes the record into `into` and says how long it is. Allocates nothing: it runs in the child. `detail` belongs to
/// the finding: an interpreter's path.
pub(super) fn encode(trouble: &Trouble, finding: Finding, detail: &[u8], into: &mut [u8; MAX]) -> usize {
    let cut = |name: &'_ [u8]| name.len().min(NAME_MAX);
    let object = trouble.object.get(..cut(trouble.object)).unwrap_or_default();
    let detail = detail.get(..cut(detail)).unwrap_or_default();
    let [e0, e1, e2, e3] = trouble.errno.to_ne_bytes();
    let [l0, l1, ..] = object.len().to_le_bytes();
    let head: [u8; HEAD] = [trouble.stage as u8, finding as u8, e0, e1, e2, e3, l0, l1];
    let mut len = 0;
    for (slot, byte) in into.iter_mut().zip(head.iter().chain(object).chain(detail)) {
        *slot = *byte;
        len += 1;
    }
    len
}

/// Reads a record. One that is no record, which cannot come from `encode`, still ends the start.
pub(super) fn decode(record: &[u8]) -> Said {
    match record {
        [INTERCEPTED, ..] => Said::Intercepted,
        [NOT_INTERCEPTED, errno @ ..] => {
            Said::NotIntercepted(errno.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno)))
        }
        _ => Said::Failed(failure(record)),
    }
}

fn failure(record: &[u8]) -> Failure {
    let parsed = record.split_first_chunk::<HEAD>().and_then(|(head, names)| {
        let [stage, finding, e0, e1, e2, e3, l0, l1] = *head;
        let (object, detail) = names.split_at_checked(usize::from(u16::from_le_bytes([l0, l1])))?;
        let stage = STAGES.into_iter().find(|known| *known as u8 == stage)?;
        let finding = FINDINGS.into_iter().find(|known| *known as u8 == finding)?;
        let why = text(finding, i32::from_ne_bytes([e0, e1, e2, e3]), &String::from_utf8_lossy(detail));
        Some(explained(stage, &String::from_utf8_lossy(object), i32::from_ne_bytes([e0, e1, e2, e3]), &why))
    });
    parsed.unwrap_or_else(|| explained(Stage::Exec, "", 0, "the child's report is garbled"))
}

fn text(finding: Finding, errno: i32, detail: &str) -> String {
    match finding {
        Finding::Nothing => errno::why(errno).into(),
        Finding::NotInPath => "not found in PATH".into(),
        Finding::NoInterpreter => format!("its #! interpreter {detail} does not exist"),
        Finding::NoLoader => format!("its dynamic loader {detail} does not exist, it was built for another libc"),
        Finding::NoHashBang => "neither a program of this machine nor a script with a #! line".into(),
        Finding::Directory => "is a directory".into(),
        Finding::Link => "is a symbolic link, and output goes through none: name the file itself".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(stage: Stage, errno: i32, object: &[u8], finding: Finding, detail: &[u8]) -> Failure {
        let mut buffer = [0; MAX];
        let len = encode(&Trouble { stage, errno, object }, finding, detail, &mut buffer);
        failure(&buffer[..len])
    }

    #[test]
    fn every_stage_and_finding_comes_through() {
        for stage in STAGES {
            let failure = pass(stage, libc::EMFILE, b"/x", Finding::Nothing, b"");
            assert_eq!((failure.stage, failure.errno, &*failure.object), (stage, libc::EMFILE, "/x"));
            assert!(failure.passing);
        }
        // Stages are numbered without gaps, so a new one that the table lacks would show here.
        assert!(STAGES.iter().enumerate().all(|(at, stage)| *stage as usize == at));
        assert_eq!(Stage::Exec as usize, STAGES.len() - 1);
        assert!(FINDINGS.iter().enumerate().all(|(at, finding)| *finding as usize == at));
    }

    #[test]
    fn the_interpreter_is_named() {
        let failure = pass(Stage::Exec, libc::ENOENT, b"/app/run", Finding::NoInterpreter, b"/usr/bin/nope");
        assert_eq!(
            failure.to_string(),
            "start failed at exec /app/run: its #! interpreter /usr/bin/nope does not exist"
        );
        assert_eq!(failure.exit_code(), 127);
    }

    #[test]
    fn long_names_are_cut_and_fit() {
        let long = [b'x'; 5000];
        let failure = pass(Stage::Chdir, libc::ENAMETOOLONG, &long, Finding::NoLoader, &long);
        assert_eq!(failure.object.len(), NAME_MAX);
        const { assert!(HEAD + 2 * NAME_MAX <= MAX) };
    }

    #[test]
    fn interception_is_told() {
        assert!(matches!(decode(&intercepted(None)), Said::Intercepted));
        assert!(matches!(decode(&intercepted(Some(libc::EBUSY))), Said::NotIntercepted(libc::EBUSY)));
        assert!(STAGES.iter().all(|stage| (*stage as u8) < INTERCEPTED));
    }

    #[test]
    fn garbage_is_a_failure_and_no_panic() {
        for record in [&b""[..], b"\x00", b"\xff\0\0\0\0\0\0\0", b"\x01\xff\0\0\0\0\0\0", b"\x01\0\0\0\0\0\xff\xffx"] {
            assert_eq!(&*failure(record).why, "the child's report is garbled");
        }
    }
}
