//! The languages that a file of apps may be written in. Each reader turns text into a `tree`, or says at which byte the
//! text is not of its language; what the values mean is not known here.

mod json;
mod script;
mod toml;
mod yaml;

use std::path::Path;

pub(super) use script::export;
pub use script::{Complete, NODE_PATIENCE, OUTPUT_MAX, RunNode};

use super::tree::{Broken, Node};

/// The language of a file, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// pm3's own. Also any other ending.
    Toml,
    /// With comments, trailing commas and what else JavaScript allows in a literal, as PM2 reads it.
    Json,
    Yaml,
    /// A module that exports the apps: `.js`, `.cjs`, `.mjs`. Node evaluates it.
    Script,
}

impl Form {
    pub fn of(path: &Path) -> Form {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json" | "json5" | "jsonc") => Form::Json,
            Some("yml" | "yaml") => Form::Yaml,
            Some("js" | "cjs" | "mjs") => Form::Script,
            _ => Form::Toml,
        }
    }
}

/// Whether a target of `pm3 start` is a file of apps and not a script to run: by its ending, as PM2 has it
/// (`server.js` is a script, `ecosystem.config.js` is not), and TOML.
pub fn is_file_of_apps(target: &str) -> bool {
    let endings = [".toml", ".json", ".yml", ".yaml", ".config.js", ".config.cjs", ".config.mjs"];
    endings.iter().any(|ending| target.len() > ending.len() && target.ends_with(ending))
}

/// The tree of a text, or all places where it is none. What a script exports comes here as JSON.
pub(super) fn read(form: Form, text: &str) -> Result<Node, Vec<Broken>> {
    match form {
        Form::Toml => toml::read(text),
        Form::Json | Form::Script => json::read(text).map_err(|broken| vec![broken]),
        Form::Yaml => yaml::read(text).map_err(|broken| vec![broken]),
    }
}
