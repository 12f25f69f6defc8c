//! Which files of a watched directory do not count. Pure: paths in, yes or no out.
//!
//! A pattern of `ignore_watch` is a glob: `*` and `?` stay within a name, `**` crosses directories, `[a-z]`, `{a,b}`. One
//! without a slash is a name at any depth, as in .gitignore: `node_modules`, `*.log`. One with a slash starts at the
//! app's cwd: `logs/*`, `./tmp`, `/var/cache`; `**/x` is any depth again. What matches a directory covers all that is in
//! it. `!` takes back what another pattern ignores, also one of pm3's own; but what lies in an ignored directory is
//! never seen.
//!
//! PM2 hands these patterns to chokidar, which has them all start at the cwd; so everything that PM2 ignores is ignored
//! here. There a list of patterns replaces the defaults, here it adds to them: nobody means to watch `.git`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Ignored in every app: what tools write beside the sources. Dotfiles and node_modules as in PM2; Python's caches, or
/// a start would be a change; what editors keep beside a file.
const DEFAULTS: [&str; 5] = [".*", "node_modules", "__pycache__", "*~", "#*#"];

/// Never watched unless named: an app with `/` for its cwd would watch the kernel's own trees.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What one app ignores.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ignore {
    ignored: Vec<Pattern>,
    taken_back: Vec<Pattern>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// Of a single name.
    Name(Vec<u8>),
    /// Of a whole path.
    Path(Vec<u8>),
}

impl Pattern {
    fn new(text: &str, cwd: &Path) -> Pattern {
        let text = text.trim_end_matches('/');
        if !text.contains('/') {
            return Pattern::Name(text.into());
        }
        // Climbing is done here, so that `../lib/*` means something; a glob knows no `..`.
        let mut parts = Vec::new();
        if !text.starts_with('/') {
            parts = plain(cwd).iter().skip(1).map(|part| escaped(part.as_bytes())).collect();
        }
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part.into()),
            }
        }
        let glob = parts.into_iter().flat_map(|part| [vec![b'/'], part].concat()).collect();
        Pattern::Path(glob)
    }

    fn matches(&self, path: &Path) -> bool {
        match self {
            Pattern::Name(glob) => path.file_name().is_some_and(|name| fast_glob::glob_match(glob, name.as_bytes())),
            Pattern::Path(glob) => fast_glob::glob_match(glob, path.as_os_str().as_bytes()),
        }
    }
}

impl Ignore {
    /// The defaults and `patterns`, of an app that runs in `cwd`.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>, cwd: &Path) -> Ignore {
        let (mut ignored, mut taken_back) = (Vec::new(), Vec::new());
        for text in DEFAULTS.into_iter().chain(patterns) {
            match text.strip_prefix('!') {
                Some(text) => taken_back.push(Pattern::new(text, cwd)),
                None => ignored.push(Pattern::new(text, cwd)),
            }
        }
        Ignore { ignored, taken_back }
    }

    /// Whether `path`, which lies below the watched `root`, does not count: it, or a directory on the way to it.
    pub(super) fn covers(&self, root: &Path, path: &Path) -> bool {
        let below = path.ancestors().take_while(|at| at.starts_with(root) && *at != root);
        let any = |patterns: &[Pattern], at: &Path| patterns.iter().any(|pattern| pattern.matches(at));
        let is_kernels = |at: &Path| KERNELS.iter().any(|own| at == Path::new(own));
        let mut below = below.filter(|at| is_kernels(at) || any(&self.ignored, at) && !any(&self.taken_back, at));
        below.next().is_some()
    }
}

/// Whether `path` is a log file that an app with this setting writes, or what rotation has made of one: `logs/web.log`,
/// with an instance's id `logs/web-3.log`, rotated by others `logs/web.log.1` or `logs/web-3.log.2.gz`, by pm3
/// `logs/web__2026-01-31_23-59-58-123.log` or `logs/web-3__2026-01-31_23-59-58-123.log.gz`.
pub(super) fn is_log(setting: &Path, path: &Path) -> bool {
    let (Some(stem), Some(name)) = (setting.file_stem(), path.file_name()) else { return false };
    if setting.parent() != path.parent() {
        return false;
    }
    let Some(rest) = name.as_bytes().strip_prefix(stem.as_bytes()) else { return false };
    let ending = setting.extension().map(|ending| [b".", ending.as_bytes()].concat()).unwrap_or_default();
    let ends = |rest: &[u8]| {
        let rotated = rest.strip_prefix(&*ending);
        rotated.is_some_and(|rotated| rotated.first().is_none_or(|byte| *byte == b'.'))
    };
    let ends = |rest: &[u8]| ends(rest) || after_date(rest).is_some_and(ends);
    ends(rest) || after_id(rest).is_some_and(ends)
}

/// What follows `__` and a date, which is digits and what stands between them.
fn after_date(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"__")?;
    let date = text.iter().take_while(|byte| byte.is_ascii_digit() || b"-_".contains(byte)).count();
    text.get(date..).filter(|_| date > 0)
}

/// What follows `-3`.
fn after_id(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"-")?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.get(digits..).filter(|_| digits > 0)
}

/// Without `.` and `..`, as far as names tell.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// A glob that means this text.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(text.len());
    for byte in text {
        if b"*?[]{}\\!,".contains(byte) {
            glob.push(b'\\');
        }
        glob.push(*byte);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `paths`, below /app, count; `patterns` as in a file.
    fn counting(patterns: &[&str], paths: &str) -> String {
        let root = Path::new("/app");
        let ignore = Ignore::new(patterns.iter().copied(), root);
        let counts = |path: &&str| !ignore.covers(root, &root.join(path));
        paths.split_whitespace().filter(counts).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_tools_leave_behind_does_not_count() {
        let paths = "index.js .env .git/HEAD src/.cache/x src/a.js node_modules/x/index.js src/node_modules/y a.js~ #a.js# \
                     src/.#a.js lib/__pycache__/a.pyc modules/node.js a~b .";
        assert_eq!(counting(&[], paths), "index.js src/a.js modules/node.js a~b .");
    }

    #[test]
    fn patterns_mean_what_the_page_says() {
        let paths = "a.log x/a.log logs/a logs/x/b tmp/a x/tmp/a tmp.js";
        for (pattern, left) in [
            ("*.log", "logs/a logs/x/b tmp/a x/tmp/a tmp.js"),
            ("**/*.log", "logs/a logs/x/b tmp/a x/tmp/a tmp.js"),
            ("./*.log", "x/a.log logs/a logs/x/b tmp/a x/tmp/a tmp.js"),
            ("logs", "a.log x/a.log tmp/a x/tmp/a tmp.js"),
            ("logs/", "a.log x/a.log tmp/a x/tmp/a tmp.js"),
            ("logs/*", "a.log x/a.log tmp/a x/tmp/a tmp.js"),
            ("logs/**", "a.log x/a.log tmp/a x/tmp/a tmp.js"),
            ("logs/x", "a.log x/a.log logs/a tmp/a x/tmp/a tmp.js"),
            ("tmp", "a.log x/a.log logs/a logs/x/b tmp.js"),
            ("./tmp", "a.log x/a.log logs/a logs/x/b x/tmp/a tmp.js"),
            ("/app/tmp", "a.log x/a.log logs/a logs/x/b x/tmp/a tmp.js"),
            ("../app/./tmp", "a.log x/a.log logs/a logs/x/b x/tmp/a tmp.js"),
            ("/tmp", "a.log x/a.log logs/a logs/x/b tmp/a x/tmp/a tmp.js"),
            ("{logs,x}/*", "a.log tmp/a tmp.js"),
            ("t?p.[jt]s", "a.log x/a.log logs/a logs/x/b tmp/a x/tmp/a"),
            // What a regular expression of PM2's old manual becomes: a glob that matches nothing.
            ("[\\/\\\\]\\./", paths),
            ("*", ""),
            ("**", ""),
            ("", paths),
        ] {
            assert_eq!(counting(&[pattern], paths), left, "{pattern}");
        }
    }

    #[test]
    fn an_exclamation_mark_takes_back() {
        assert_eq!(counting(&["!.env"], "a .env .git/x x/.env"), "a .env x/.env");
        assert_eq!(
            counting(&["*.json", "!package.json"], "a.json package.json x/package.json"),
            "package.json x/package.json"
        );
        assert_eq!(counting(&["!./package.json", "*.json"], "a.json package.json x/package.json"), "package.json");
        // Its directory is ignored, so nobody looks.
        assert_eq!(counting(&["!HEAD"], ".git/HEAD"), "");
    }

    #[test]
    fn only_what_is_below_the_root_is_judged() {
        let root = Path::new("/home/ann/.app/node_modules/x");
        let ignore = Ignore::new([], root);
        assert!(!ignore.covers(root, &root.join("a.js")));
        assert!(!ignore.covers(root, root));
        assert!(ignore.covers(root, &root.join(".a")));
    }

    #[test]
    fn a_cwd_is_no_glob() {
        let cwd = Path::new("/srv/[a]{b,c}*!\\x");
        let ignore = Ignore::new(["tmp/*"], cwd);
        assert!(ignore.covers(cwd, &cwd.join("tmp/a")));
        assert!(!ignore.covers(cwd, &cwd.join("tnp/a")));
        assert!(!ignore.covers(Path::new("/srv"), Path::new("/srv/ab*!\\x/tmp/a")));
    }

    #[test]
    fn the_kernels_own_trees_are_left_out_where_nobody_named_them() {
        let ignore = Ignore::new([], Path::new("/"));
        for (path, covered) in [("/proc/1/stat", true), ("/sys", true), ("/dev/null", true), ("/srv/proc/a", false)] {
            assert_eq!(ignore.covers(Path::new("/"), Path::new(path)), covered, "{path}");
        }
        assert!(!ignore.covers(Path::new("/dev/shm"), Path::new("/dev/shm/a")));
    }

    #[test]
    fn own_logs_are_known_with_their_ids_and_rotations() {
        let is = |setting: &str, name: &str| is_log(&Path::new("/l").join(setting), &Path::new("/l").join(name));
        for name in ["web.log", "web-0.log", "web-12.log", "web.log.1", "web-3.log.2.gz"] {
            assert!(is("web.log", name), "{name}");
        }
        let date = "2026-01-31_23-59-58-123";
        for name in ["web__D.log", "web__D.log.gz", "web__D.log.gz.tmp", "web-3__D.log"] {
            assert!(is("web.log", &name.replace('D', date)), "{name}");
        }
        for name in ["web__D.js", "web__x.log", "web__.log", "web_D.log"] {
            assert!(!is("web.log", &name.replace('D', date)), "{name}");
        }
        for name in ["web.js", "web", "web-x.log", "web-.log", "weblog", "web.logs", "web-1", "web2.log", "x"] {
            assert!(!is("web.log", name), "{name}");
        }
        for (name, own) in [("out", true), ("out-1", true), ("out.1", true), ("out-", false), ("outer", false)] {
            assert_eq!(is("out", name), own, "{name}");
        }
        assert!(!is_log(Path::new("/l/web.log"), Path::new("/m/web.log")));
    }

    #[test]
    fn names_alone_make_a_path_plain() {
        for (path, expected) in [("/a/./b/../c", "/a/c"), ("/../a", "/a"), ("/", "/"), ("/a//b/", "/a/b")] {
            assert_eq!(plain(Path::new(path)), Path::new(expected));
        }
    }
}
