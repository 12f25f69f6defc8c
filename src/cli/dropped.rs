//! PM2's verbs that pm3 does not have, and what to use in their place; and the nearest verb for a word that is none.

use crate::supervisor::near::nearest;

/// Verbs, and what their user is told.
const DROPPED: &[(&[&str], &str)] = &[
    (&["deploy"], "pm3 copies no code to other machines: use git, rsync or an image, then `pm3 reload FILE`"),
    (
        &[
            "install",
            "autoinstall",
            "uninstall",
            "package",
            "publish",
            "module:install",
            "module:uninstall",
            "module:update",
            "module:publish",
            "module:generate",
        ],
        "pm3 has no modules; `pm3 --help` lists what it does by itself, and log_rotate is pm2-logrotate's part",
    ),
    (
        &["logrotate"],
        "set log_rotate = true, or let logrotate or the like move log files away and call `pm3 reload-logs`",
    ),
    (
        &["set", "get", "multiset", "conf", "config", "unset"],
        "settings stand in the file that pm3 reads, see `pm3 check --keys`",
    ),
    (
        &["link", "unlink", "monitor", "unmonitor", "open", "register", "login", "logout", "cloud"],
        "pm3 reports to nobody's service; `pm3 list --watch` and `pm3 logs` show what there is",
    ),
    (
        &["trigger"],
        "actions inside of apps are PM2's own; send a signal with `pm3 sendSignal SIGNAL APP`, a line with `pm3 send APP TEXT`",
    ),
    (
        &["serve", "expose"],
        "pm3 serves no files: start a web server, as in `pm3 start \"python3 -m http.server 8080\"`",
    ),
    (&["deepUpdate"], "there is nothing but the binary to update"),
    (&["pull", "forward", "backward"], "pm3 does not touch your repository: use git, then `pm3 reload APP`"),
    (
        &["profile:mem", "profile:cpu", "profile"],
        "use the language's own profiler, as in `pm3 start app.js --node-args --cpu-prof`",
    ),
    (&["imonit"], "`pm3 list --watch` and `pm3 logs` show the same"),
    (&["slist", "sysinfos"], "`pm3 jlist` prints all that there is as JSON"),
    (&["inspect"], "give Node the option: `pm3 start app.js --node-args --inspect`"),
    (&["create"], "`pm3 ecosystem` writes a sample file"),
    (
        &["install-otel", "uninstall-otel"],
        "start the app with the tracing library that it needs, as in `--node-args \"-r ./tracing.js\"`",
    ),
    (&["examples"], "`pm3 VERB --help` has examples"),
];

/// What is said of a word that is no verb. `verbs` are those that there are.
pub(super) fn instead<'a>(word: &str, verbs: impl Iterator<Item = &'a str>) -> String {
    if let Some((_, instead)) = DROPPED.iter().find(|(words, _)| words.contains(&word)) {
        return format!("{word}: not in pm3; {instead}");
    }
    match nearest(word, verbs) {
        Some(near) => format!("{word}: no such verb, did you mean {near}? `pm3 --help` lists all"),
        None => format!("{word}: no such verb; `pm3 --help` lists all, `pm3 start {word}` starts a script"),
    }
}
