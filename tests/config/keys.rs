//! Every key, once good and once bad. No key can be forgotten here: the reference says which there are.

use std::collections::BTreeSet;

use expect_test::expect;
use pm3::config;

use super::{facts, show};

/// Every key with a good line and a bad one. What a good line changes is in the spec; the bad one is refused.
pub(super) const KEYS: &[(&str, &str, &str)] = &[
    ("name", "'shop'", "'my shop'"),
    ("append_env_to_name", "true", "'prod'"),
    ("script", "'b.js'", "5"),
    ("args", "'-v'", "{ a = 1 }"),
    ("command", "'a b'", "'  '"),
    ("shell", "true\nname = 'x'\ncommand = 'a'", "'yes'"),
    ("interpreter", "'deno'", "'deno run'"),
    ("interpreter_args", "'-v'", "true"),
    ("cwd", "'/x'", "''"),
    ("namespace", "'shop'", "'all'"),
    ("env", "{ A = 1 }", "[1]"),
    ("env_<profile>", "{ A = 1 }", "{ A = [1] }"),
    ("env_file", "'-none'", "3"),
    ("port", "3000", "'http'"),
    ("filter_env", "['AWS_', 'TOKEN']", "{}"),
    ("shell_env", "{ A = 'x', B = false }", "{ A = 1, '=' = '' }"),
    ("instances", "2", "1025"),
    ("exec_mode", "'fork'", "'clustr'"),
    ("listen", "[':3000', 'unix:///run/a.sock']", "[':0', 'localhost:80', '10.0.0.1', 'unix:a', 5]"),
    ("listen_backlog", "16", "0"),
    ("socket_mode", "'660'\nlisten = 'unix:/a'", "'888'"),
    ("standby", "1", "65"),
    ("standby_max_age", "'10m'\nstandby = 1", "100"),
    ("instance_var", "'N'", "'1N'"),
    ("increment_var", "'PORT'", "'NONE'"),
    ("kind", "'oneshot'", "'one-shot'"),
    ("autostart", "false", "'no'"),
    ("after", "'other'", "'othr'"),
    ("requires", "['other']", "[['other']]"),
    ("autorestart", "'never'", "'allways'"),
    ("restart_delay", "'1s'", "'1 s'"),
    ("exp_backoff_restart_delay", "100", "-1"),
    ("restart_jitter", "20", "'101%'"),
    ("max_restarts", "3", "0"),
    ("min_uptime", "'2s'", "'60d'"),
    ("stop_exit_codes", "[1, 2]", "[1, 256]"),
    ("max_memory_restart", "'20M'", "20"),
    ("cron_restart", "'0 3 * * *'", "'0 3 * *'"),
    ("overlap", "true", "'yes'"),
    ("max_surge", "'25%'", "0"),
    ("max_unavailable", "2", "'101%'"),
    ("wait_ready", "true", "'soon'"),
    ("listen_timeout", "500\nwait_ready = true", "50"),
    ("ready", "'notify'", "'notfy'"),
    ("watchdog", "'10s'", "'10ms'"),
    ("health", "{ http = '/healthz' }", "{ http = '/healthz', tcp = 80, interval = '1ms', inteval = 3 }"),
    ("health.http", "'http://localhost:80/x'", "'https://localhost/'"),
    ("health.tcp", "'[::1]:80'", "'db:5432'"),
    ("health.exec", "'pg_isready -q'", "''"),
    ("health.port", "3000\nhealth.http = '/'", "0"),
    ("health.interval", "'5s'\nhealth.tcp = true", "10"),
    ("health.timeout", "'5s'\nhealth.tcp = true", "'soon'"),
    ("health.retries", "5\nhealth.tcp = true", "0"),
    ("health.start_period", "'1m'\nhealth.tcp = true", "-1"),
    ("health.start_interval", "'1s'\nhealth.tcp = true", "0"),
    ("watch", "true", "[['x']]"),
    ("ignore_watch", "'*.log'\nwatch = true", "5"),
    ("watch_delay", "100\nwatch = 'src'", "'soon'"),
    ("kill_signal", "'INT'", "'SIGTRM'"),
    ("kill_timeout", "'1s'", "1979-05-27"),
    ("drain", "'3s'", "'soon'"),
    ("treekill", "false", "0"),
    ("main", "true", "'maybe'"),
    ("exit_on_error", "true", "1"),
    ("log_mode", "'none'", "'jsn'"),
    ("log_date_format", "'YYYY'", "'yyyy'"),
    ("time", "true", "'HH:mm'"),
    ("log_memory", "'1M'", "'1T'"),
    ("log_rotate", "true", "{ size = '10', kep = 3 }"),
    ("log_rotate.size", "'1M'", "1000"),
    ("log_rotate.every", "'1d'", "'10s'"),
    ("log_rotate.keep", "3", "-1"),
    ("log_rotate.gzip", "true", "'no'"),
    ("log_rate", "'1000/s'", "'1000/d'"),
    ("log_line_max", "'16K'", "100"),
    ("log_on_full", "'block'", "'wait'"),
    ("lossless", "true", "'yes'"),
    ("out_file", "'x'", "['x']"),
    ("error_file", "'x'", "true"),
    ("log_file", "'x'", "{}"),
    ("disable_logs", "true", "'no'"),
    ("merge_logs", "true", "'true '"),
    ("stdin", "'pipe'", "'/dev/null'"),
    ("user", "1000", "'www:www'"),
    ("group", "'www'", "-1"),
    ("umask", "'022'", "22"),
    ("nice", "5", "20"),
    ("oom_score_adj", "-5", "1001"),
    ("limits", "{ nofile = 5 }", "{ nofile = '5:4', cpu = '1M', nofiles = 1 }"),
    ("no_new_privs", "true", "2"),
    ("stop_budget", "'5s'", "'soon'"),
    ("exit_policy", "'never'", "'always'"),
    ("settle_time", "0", "'x'"),
    ("sample_interval", "'2s'", "10"),
    ("runtime_dir", "'/x'", "1"),
    ("control", "false", "'off'"),
    ("control_group", "'ops'", "'o p s'"),
    ("control_right", "'operate'", "'admin'"),
    ("log_level", "'debug'", "'inf'"),
    ("log_dir", "'/x'", "2"),
    ("termination_log", "'/x'", "false"),
];

/// Keys that change nothing yet.
const WITHOUT_EFFECT: &[&str] = &["env_file"];

pub(super) fn with_key(key: &str, value: &str) -> String {
    let settings = KEYS.iter().position(|(name, ..)| *name == "stop_budget").unwrap();
    let of_pm3 = KEYS[settings..].iter().any(|(name, ..)| *name == key);
    let key = key.replace("<profile>", "prod");
    let script = if value.contains("command =") || ["script", "command"].contains(&key.as_str()) {
        ""
    } else {
        "script = 'a.js'\n"
    };
    let other = "[[apps]]\nname = 'other'\nscript = 'o.js'\nenv_prod = {}\n";
    if of_pm3 {
        format!("[[apps]]\nscript = 'a.js'\n{other}[pm3]\n{key} = {value}\n")
    } else {
        format!("[[apps]]\n{script}{key} = {value}\n{other}")
    }
}

#[test]
fn every_key_is_in_the_table_of_cases() {
    let reference = config::keys();
    let keys = reference.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" = "));
    let keys: BTreeSet<&str> = keys.map(|(key, _)| key).filter(|key| !key.starts_with(' ')).collect();
    assert_eq!(keys, KEYS.iter().map(|(key, ..)| *key).collect());
}

#[test]
fn every_key_is_read() {
    let read = |text: &str| config::parse("pm3.toml", text, Some("prod"), &facts()).map_err(|mistakes| show(&mistakes));
    let plain = read(&with_key("script", "'a.js'")).unwrap();
    for (key, good, _) in KEYS {
        let spec = read(&with_key(key, good)).unwrap();
        assert_eq!(spec == plain, WITHOUT_EFFECT.contains(key), "{key} = {good}");
    }
}

#[test]
fn every_key_refuses_what_it_does_not_mean() {
    let mut all = String::new();
    for (key, _, bad) in KEYS {
        let mistakes = config::parse("f", &with_key(key, bad), None, &facts()).expect_err(key);
        all.push_str(&show(&mistakes));
    }
    expect![[r#"
        f:3:1: my shop: name = 'my shop': expected a name without blanks, quotes and / \ = , : (it becomes part of file names), as my-shop
        f:3:1: a: append_env_to_name = 'prod': expected true or false
        f:2:1: app 1: script = 5: expected a path
        f:3:1: a: args: expected an array of texts, or one text that is split as a shell would
        f:2:1: app 1: command = '  ': it is empty; nothing would run
        f:3:1: a: shell = 'yes': expected true or false
        f:3:1: a: interpreter = 'deno run': expected one program; its arguments go into interpreter_args
        f:3:1: a: interpreter_args = true: expected an array of texts, or one text that is split as a shell would
        f:3:1: a: cwd = '': it is empty; leave it out
        f:3:1: a: namespace = 'all': a number or `all` could not be told from an id or from all apps, in `pm3 stop`
        f:3:1: a: env: expected a table of variables, each a text, a number or a boolean
        f:3:14: a: env_prod.A: expected a text, a number or a boolean
        f:3:1: a: env_file: expected a path or an array of paths; a - before one: it may be missing
        f:3:1: a: port = 'http': expected a whole number from 0 to 65535
        f:3:1: a: filter_env: expected true, false, or the beginnings of names, a text or an array of texts
        f:3:15: a: shell_env.A: expected a text, or false
        f:3:22: a: shell_env.=: a variable's name is not empty and has no = in it
        f:3:1: a: instances = 1025: expected a number up to 1024, "max" or 0 (one per processor), or -1 (one less)
        f:3:1: a: exec_mode = 'clustr': expected cluster or fork, did you mean cluster?
        f:3:11: a: listen[0]: port 0 would be another one each time
        f:3:17: a: listen[1]: expected an address and a port, as "0.0.0.0:3000" or ":3000" (all), or "unix:/run/web.sock"
        f:3:33: a: listen[2]: expected an address and a port, as "0.0.0.0:3000" or ":3000" (all), or "unix:/run/web.sock"
        f:3:45: a: listen[3]: the path of a Unix socket starts at /, as "unix:/run/web.sock"
        f:3:55: a: listen[4]: expected an address and a port, as "0.0.0.0:3000" or ":3000" (all), or "unix:/run/web.sock"
        f:3:1: a: listen_backlog = 0: expected a whole number from 1 to 65535
        f:3:1: a: socket_mode = '888': expected octal permission bits, as "022" or 0o022
        f:3:1: a: standby = 65: expected a whole number from 0 to 64
        f:3:1: a: standby_max_age = 100: expected a time of at least "1s", or 0 for never
        f:3:1: a: instance_var = '1N': expected the name of a variable
        f:3:1: a: increment_var = 'NONE': NONE is not set; give it its first value in env
        f:3:1: a: kind = 'one-shot': expected service or oneshot, did you mean oneshot?
        f:3:1: a: autostart = 'no': expected true or false
        f:3:9: a: after: there is no app othr, did you mean other?
        f:3:13: a: requires[0]: expected the name of an app
        f:3:1: a: autorestart = 'allways': expected always, on-failure or never, did you mean always?
        f:3:1: a: restart_delay = '1 s': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:1: a: exp_backoff_restart_delay = -1: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:1: a: restart_jitter = '101%': expected a percentage from 0 to 100, as 20 or "20%"
        f:3:1: a: max_restarts = 0: expected a number of at least 1, or "unlimited" (for no restart at all: autorestart = "never")
        f:3:1: a: min_uptime = '60d': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:23: a: stop_exit_codes[1]: expected a number from 0 to 255
        f:3:1: a: max_memory_restart = 20: expected a size of at least 64K: bytes, or text as "20M", "1.5G", "80%"
        f:3:1: a: cron_restart = '0 3 * *': expected a schedule: 5 fields (minute hour day month weekday), or 6 with seconds first; these are 4
        f:3:1: a: overlap = 'yes': expected true or false
        f:3:1: a: max_surge = 0: expected a number of instances from 1 to 1024, or a percentage of them, as "25%"
        f:3:1: a: max_unavailable = '101%': expected a number of instances from 1 to 1024, or a percentage of them, as "25%"
        f:3:1: a: wait_ready = 'soon': expected true or false
        f:3:1: a: listen_timeout = 50: expected a time of at least "100ms"
        f:3:1: a: ready = 'notfy': expected exec, listen, notify, message, health, fd:N (a descriptor from 3 on) or line:TEXT (up to 256 bytes of a line), did you mean notify?
        f:3:1: a: watchdog = '10ms': expected a time of at least "100ms"
        f:3:41: a: health.interval: expected a time of at least "100ms"
        f:3:59: a: health.inteval: unknown key, did you mean interval?
        f:3:8: a: health.http: probes speak plain http; for https set exec, with curl for example
        f:3:8: a: health.tcp: expected an address, as 127.0.0.1, [::1] or localhost: names are not looked up, not "db"
        f:3:8: a: health.exec: it is empty; nothing would run
        f:3:8: a: health.port: expected a whole number from 1 to 65535
        f:3:8: a: health.interval: expected a time of at least "100ms"
        f:3:8: a: health.timeout: expected a time of at least "100ms"
        f:3:8: a: health.retries: expected a whole number from 1 to 1000
        f:3:8: a: health.start_period: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:8: a: health.start_interval: expected a time of at least "100ms"
        f:3:10: a: watch[0]: expected a path
        f:3:1: a: ignore_watch = 5: expected a name or glob, or an array of them
        f:3:1: a: watch_delay = 'soon': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:1: a: kill_signal = 'SIGTRM': expected a signal's name or number, as "TERM", "SIGINT", "RTMIN+3" or 15, did you mean TERM?
        f:3:1: a: kill_timeout = 1979-05-27: expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:1: a: drain = 'soon': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:3:1: a: treekill = 0: expected true or false
        f:3:1: a: main = 'maybe': expected true or false
        f:3:1: a: exit_on_error = 1: expected true or false
        f:3:1: a: log_mode = 'jsn': expected auto, raw, prefix, json, inherit or none, did you mean json?
        f:3:1: a: log_date_format = 'yyyy': y means nothing in a date; there is YYYY YY MMMM MMM MM M DD D dddd ddd HH H hh h mm m ss s SSS SS S A a ZZ Z X x, and [text]
        f:3:1: a: time = 'HH:mm': expected true or false
        f:3:1: a: log_memory = '1T': expected a size up to 64M: bytes, or text as "64K"; 0 for nothing
        f:3:16: a: log_rotate.size: expected a size of at least 1K: bytes, or text as "10M"; 0 for any
        f:3:29: a: log_rotate.kep: unknown key, did you mean keep?
        f:3:12: a: log_rotate.size: expected a size of at least 1K: bytes, or text as "10M"; 0 for any
        f:3:12: a: log_rotate.every: expected a time from "1m" to 49 days, as "1h", "1d" or "7d"; 0 for none
        f:3:12: a: log_rotate.keep: expected a whole number from 0 to 1000
        f:3:12: a: log_rotate.gzip: expected true or false
        f:3:1: a: log_rate = '1000/d': expected lines in a time from 1s to 1h, as "1000/s", "5000/m" or "10000/30s"
        f:3:1: a: log_line_max = 100: expected a size from 256 to 1M: bytes, or text as "16K"
        f:3:1: a: log_on_full = 'wait': expected drop or block
        f:3:1: a: lossless = 'yes': expected true or false
        f:3:1: a: out_file = ['x']: expected a path
        f:3:1: a: error_file = true: expected a path
        f:3:1: a: log_file: expected a path
        f:3:1: a: disable_logs = 'no': expected true or false
        f:3:1: a: merge_logs = 'true ': expected true or false, did you mean true?
        f:3:1: a: stdin = '/dev/null': expected null or pipe
        f:3:1: a: user = 'www:www': expected a name or a number; user and group have a key each
        f:3:1: a: group = -1: expected a name or a number
        f:3:1: a: umask = 22: expected octal permission bits, as "022" or 0o022
        f:3:1: a: nice = 20: expected a whole number from -20 to 19
        f:3:1: a: oom_score_adj = 1001: expected a whole number from -1000 to 1000
        f:3:12: a: limits.nofile: the soft limit is above the hard one
        f:3:28: a: limits.cpu: expected a number, "unlimited", or "soft:hard" (sizes may be as "64M")
        f:3:40: a: limits.nofiles: no such limit, expected as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack, did you mean nofile?
        f:3:1: a: no_new_privs = 2: expected true or false
        f:8:1: pm3: stop_budget = 'soon': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:8:1: pm3: exit_policy = 'always': expected when-done or never
        f:8:1: pm3: settle_time = 'x': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        f:8:1: pm3: sample_interval = 10: expected a time of at least "100ms"
        f:8:1: pm3: runtime_dir = 1: expected a path
        f:8:1: pm3: control = 'off': expected true or false
        f:8:1: pm3: control_group = 'o p s': expected a name or a number
        f:8:1: pm3: control_right = 'admin': expected view or operate
        f:8:1: pm3: log_level = 'inf': expected off, error, warn, info, debug or trace, did you mean info?
        f:8:1: pm3: log_dir = 2: expected a path
        f:8:1: pm3: termination_log = false: expected a path
    "#]].assert_eq(&all);
}
