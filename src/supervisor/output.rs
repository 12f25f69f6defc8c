//! Where an app's output goes, and in which form.

use serde::{Deserialize, Serialize};

use super::seldom::Usual;

/// Where an app's output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    pub mode: LogMode,
    /// Files that get it instead; `-<id>` is put before the ending where the app has several instances and
    /// `merge` is not set. Both the same path: both streams into one file. [`Output::OWN`] beside `both`: pm3's own.
    pub out: Option<Box<str>>,
    pub err: Option<Box<str>>,
    /// A file that gets both, beside those; and in place of pm3's own where there is no other.
    pub both: Option<Box<str>>,
    pub merge: bool,
}

impl Output {
    /// Names of pm3's own stdout and stderr. They are links, and an app's file is never opened through one.
    pub const OWN: [&str; 2] = ["/dev/stdout", "/dev/stderr"];
}

impl Usual for Output {
    const USUAL: &'static Output = &Output { mode: LogMode::Auto, out: None, err: None, both: None, merge: false };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// `Raw` into a file; else `Raw` where there is one app, and `Prefix` where there are several.
    #[default]
    Auto,
    /// The logger passes it on as it is.
    Raw,
    /// The logger puts `id|name |` in front of each line.
    Prefix,
    /// The logger makes a JSON object of each line.
    Json,
    /// The app holds pm3's own stdout and stderr, or its files, itself.
    Inherit,
    /// Nobody reads it: /dev/null, where there is no file.
    None,
}

impl LogMode {
    /// Whether output goes through the logger.
    pub fn is_collected(self) -> bool {
        match self {
            LogMode::Inherit | LogMode::None => false,
            LogMode::Auto | LogMode::Raw | LogMode::Prefix | LogMode::Json => true,
        }
    }
}
