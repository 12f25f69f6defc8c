//! What lies beside a script and tells of it: the version in the nearest package.json, and that of the node that runs it.
//! Files of others, read by whoever looks at the list, perhaps root: so nothing is executed, nothing is waited for, and
//! what is too large or no plain file is not there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A larger file is no package.json that a person wrote.
const FILE_MAX: u64 = 1 << 20;

/// Versions by directory: the instances of an app ask for the same one.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<PathBuf, Option<String>>);

impl Versions {
    /// The version in the package.json that is nearest above a script, as PM2 finds it; None also where that one names no
    /// version. `script` is absolute; other paths belong to nothing.
    pub(super) fn of(&mut self, script: &str) -> Option<String> {
        let dir = Path::new(script).parent().filter(|dir| dir.is_absolute())?;
        if let Some(known) = self.0.get(dir) {
            return known.clone();
        }
        let nearest = dir.ancestors().find_map(|dir| read(&dir.join("package.json")));
        let version = nearest.and_then(|text| version_in(&text));
        self.0.insert(dir.to_owned(), version.clone());
        version
    }
}

fn version_in(package: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Package {
        version: Option<String>,
    }
    serde_json::from_str::<Package>(package).ok()?.version
}

/// The version of the node at this path, or of this name in `path`, a list as `$PATH` is. It is read from the header that
/// every distribution of node has beside its program; None where there is none.
pub(super) fn node(interpreter: &str, path: &std::ffi::OsStr) -> Option<String> {
    let name = Path::new(interpreter);
    if name.file_name()? != "node" {
        return None;
    }
    let program = if name.is_absolute() {
        name.to_owned()
    } else {
        std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| file.is_file())?
    };
    let program = fs::canonicalize(program).ok()?;
    let header = read(&program.parent()?.parent()?.join("include/node/node_version.h"))?;
    let number = |what: &str| {
        let mut lines = header.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find_map(|words| match words.as_slice() {
            ["#define", name, number] if *name == what => number.parse::<u32>().ok(),
            _ => None,
        })
    };
    let (major, minor, patch) =
        (number("NODE_MAJOR_VERSION")?, number("NODE_MINOR_VERSION")?, number("NODE_PATCH_VERSION")?);
    Some(format!("{major}.{minor}.{patch}"))
}

/// A small plain file's text. A pipe or a device is not opened: that may wait, or do something.
fn read(path: &Path) -> Option<String> {
    fs::metadata(path).ok().filter(|about| about.is_file() && about.len() <= FILE_MAX)?;
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::dir::Dir;

    /// Writes a file in a directory that may not be there yet, and returns its path.
    fn write(dir: &Dir, name: &str, text: &str) -> String {
        let path = dir.at(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        dir.file(name, text)
    }

    #[test]
    fn the_nearest_package_names_the_version() {
        let dir = Dir::new();
        write(&dir, "package.json", r#"{"version": "1.2.3", "other": [1]}"#);
        write(&dir, "lib/none/package.json", r#"{"name": "x"}"#);
        write(&dir, "lib/odd/package.json", r#"{"version": 3}"#);
        write(&dir, "lib/broken/package.json", r#"{"version": "#);
        let mut versions = Versions::default();
        for (script, version) in [
            ("server.js", Some("1.2.3")),
            ("lib/deep/er/server.js", Some("1.2.3")),
            ("lib/none/server.js", None),
            ("lib/odd/server.js", None),
            ("lib/broken/server.js", None),
        ] {
            // Twice: from the file and from memory.
            for _ in 0..2 {
                let script = dir.at(script);
                assert_eq!(versions.of(&script).as_deref(), version, "{script}");
            }
        }
        assert_eq!(versions.of("server.js"), None);
        assert_eq!(versions.of(""), None);
    }

    #[test]
    fn what_is_no_plain_small_file_is_not_read() {
        let dir = Dir::new();
        let large = format!(r#"{{"version": "1.0.0", "x": "{}"}}"#, "x".repeat(1 << 20));
        let script = write(&dir, "large/package.json", &large);
        fs::create_dir_all(dir.at("dir/package.json")).unwrap();
        let mut versions = Versions::default();
        assert_eq!(versions.of(&script), None);
        assert_eq!(versions.of(&dir.at("dir/x.js")), None);
    }

    #[test]
    fn node_tells_its_version_by_its_header() {
        let dir = Dir::new();
        let bin = write(&dir, "bin/node", "");
        write(
            &dir,
            "include/node/node_version.h",
            "#define NODE_MAJOR_VERSION 22\n# define x\n#define NODE_MINOR_VERSION 1\n#define NODE_PATCH_VERSION 0\n",
        );
        let path = std::env::join_paths(["/nowhere".to_owned(), dir.at("bin")]).unwrap();
        assert_eq!(node(&bin, "".as_ref()).as_deref(), Some("22.1.0"));
        assert_eq!(node("node", &path).as_deref(), Some("22.1.0"));
        assert_eq!(node("node", "/nowhere".as_ref()), None);
        assert_eq!(node("python3", &path), None);
        assert_eq!(node("", &path), None);
    }
}
