//! `[apps.log_rotate]`: when a log file makes room for a new one. Its keys are rows of `schema` as all others; here is what
//! they mean together.

use super::schema;
use super::units;
use super::value::{Refused, Scalar, Val, Value, Wrongs};
use super::{Facts, tree::Tree};
use crate::supervisor::event::{Millis, Size};
use crate::supervisor::spec::LogRotate;

/// A smaller size is a slip: a number that was meant as megabytes, and a directory full of files.
const SIZE_MIN: u64 = 1 << 10;

/// In a shorter time nobody has a look at a file.
const TURN_MIN: Millis = Millis(60_000);

/// `log_rotate`: None is no rotation.
pub(super) struct Rotation(pub(super) Option<LogRotate>);

impl Value for Rotation {
    fn expects() -> String {
        "true, false, or a table as { size = \"10M\", every = \"1d\", keep = 10, gzip = true }".into()
    }

    fn read(val: &Val<'_>) -> Result<Rotation, Wrongs> {
        match val.node.tree {
            Tree::Table(_) => {
                let rotate = schema::below(schema::LOG_ROTATE, val)?;
                if rotate.size == 0 && rotate.every.is_none() {
                    let why = "with size = 0 and without every no file would ever be full; log_rotate = false says so";
                    return Err(val.wrong(Refused::Because(why.into())));
                }
                Ok(Rotation(Some(rotate)))
            }
            Tree::Flag(on) => Ok(Rotation(on.then(LogRotate::default))),
            Tree::Nothing | Tree::Odd | Tree::Number(_) | Tree::Text(_) | Tree::List(_) => {
                Err(val.wrong(Refused::Expected))
            }
        }
    }
}

/// How long a file may get; 0: any length.
pub(super) struct FileSize(pub(super) u64);

impl Scalar for FileSize {
    fn expects() -> String {
        format!("a size of at least {}: bytes, or text as \"10M\"; 0 for any", Size(SIZE_MIN))
    }

    fn parse(text: &str, _: &Facts) -> Result<FileSize, Refused> {
        let bytes = units::bytes(text).filter(|bytes| *bytes == 0 || *bytes >= SIZE_MIN);
        bytes.map(FileSize).ok_or(Refused::Expected)
    }
}

/// How long a file's time is; None: without end.
pub(super) struct Turn(pub(super) Option<Millis>);

impl Scalar for Turn {
    fn expects() -> String {
        "a time from \"1m\" to 49 days, as \"1h\", \"1d\" or \"7d\"; 0 for none".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Turn, Refused> {
        match units::millis(text) {
            Some(Millis::ZERO) => Ok(Turn(None)),
            Some(time) if time >= TURN_MIN => Ok(Turn(Some(time))),
            Some(_) | None => Err(Refused::Expected),
        }
    }
}
