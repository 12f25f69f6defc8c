//! An instance in the shape of PM2's `jlist`, which dashboards and deployment scripts read. The keys are PM2's; what pm3 has
//! no equivalent of (axm_*, vizion, km_link, …) is left out.

use serde_json::{Map, Value, json};

use super::show::variables;
use crate::control::{Described, Detail};
use crate::supervisor::spec::{Ready, Restart};

/// One entry of the array.
pub(in crate::cli) fn entry(app: &Described, one: &Detail) -> Value {
    let (spec, row) = (&app.spec, &one.row);
    let launch = &spec.launch;
    let variables: Map<String, Value> =
        variables(spec).into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect();
    let mut its_args = launch.interpreter.iter();
    let interpreter = its_args.next().unwrap_or("none");
    let mut about = json!({
        "name": row.name,
        "namespace": row.namespace,
        "pm_id": row.id,
        "version": row.version,
        "status": row.status,
        "restart_time": row.restarts,
        "unstable_restarts": one.short_runs,
        "exit_code": one.exit_code,
        "pm_uptime": one.started_ms,
        "created_at": row.created_ms,
        "exec_mode": format!("{}_mode", row.mode),
        "instances": spec.instances,
        "NODE_APP_INSTANCE": row.index,
        "pm_exec_path": row.script,
        "pm_cwd": one.cwd,
        "args": launch.args,
        "exec_interpreter": interpreter,
        "node_args": its_args.collect::<Vec<_>>(),
        "pm_out_log_path": one.out_file,
        "pm_err_log_path": one.err_file,
        "pm_log_path": one.log_file,
        "watch": row.watching,
        "autostart": spec.autostart,
        "autorestart": spec.restart.when != Restart::Never,
        "max_memory_restart": spec.memory_limit,
        "cron_restart": spec.cron,
        "restart_delay": spec.restart.delay,
        "exp_backoff_restart_delay": spec.restart.backoff,
        "max_restarts": spec.restart.max_restarts,
        "min_uptime": spec.restart.min_uptime,
        "wait_ready": (*spec.ready() == Ready::Message).then_some(true),
        "listen_timeout": spec.launch.rare.as_deref().and_then(|rare| rare.listen_timeout),
        "kill_timeout": spec.stop.timeout,
        "treekill": spec.stop.tree,
        "username": row.user,
        "env": variables,
        // Not of PM2: why the last run ended, and how many connections were reset for want of one.
        "last_reason": row.reason,
        "reset_connections": (one.resets > 0).then_some(one.resets),
    });
    // PM2 has no key where nothing is set, and tools ask `'cron_restart' in pm2_env`.
    if let Value::Object(about) = &mut about {
        about.retain(|_, value| !value.is_null());
    }
    json!({
        "pid": row.pid,
        "name": row.name,
        "pm_id": row.id,
        "monit": { "memory": row.memory_bytes, "cpu": row.cpu.unwrap_or(0.0) },
        "pm2_env": about,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::json;
    use super::super::why::tests::{crashed, steady};
    use super::*;

    #[test]
    fn pm2s_keys_are_there() {
        let list = [steady(), crashed()].map(|app| entry(&app, &app.instances[0]));
        expect![[r#"
            [
              {
                "monit": {
                  "cpu": 1.5,
                  "memory": 54001664
                },
                "name": "web",
                "pid": 12345,
                "pm2_env": {
                  "NODE_APP_INSTANCE": 1,
                  "args": [
                    "--port",
                    "3000"
                  ],
                  "autorestart": true,
                  "autostart": true,
                  "created_at": 1795430265725,
                  "env": {
                    "NODE_ENV": "production",
                    "SHELL_TOKEN": "***",
                    "TOKEN": "***"
                  },
                  "exec_interpreter": "node",
                  "exec_mode": "cluster_mode",
                  "exp_backoff_restart_delay": 0,
                  "instances": 2,
                  "kill_timeout": 8000,
                  "last_reason": "",
                  "max_restarts": 16,
                  "min_uptime": 1000,
                  "name": "web",
                  "namespace": "default",
                  "node_args": [
                    "--max-old-space-size=4096"
                  ],
                  "pm_cwd": "/srv/a-rather-long-path/for/a/web/application",
                  "pm_exec_path": "/srv/a-rather-long-path/for/a/web/application/server.js",
                  "pm_id": 3,
                  "pm_uptime": 1795430265825,
                  "restart_delay": 0,
                  "restart_time": 0,
                  "status": "online",
                  "treekill": true,
                  "unstable_restarts": 0,
                  "username": "www-data",
                  "version": "1.2.3",
                  "watch": true
                },
                "pm_id": 3
              },
              {
                "monit": {
                  "cpu": 0.0,
                  "memory": 0
                },
                "name": "mailer",
                "pid": 0,
                "pm2_env": {
                  "NODE_APP_INSTANCE": 0,
                  "args": [],
                  "autorestart": true,
                  "autostart": true,
                  "created_at": 1795030455825,
                  "cron_restart": "0 3 * * *",
                  "env": {},
                  "exec_interpreter": "none",
                  "exec_mode": "fork_mode",
                  "exit_code": 1,
                  "exp_backoff_restart_delay": 100,
                  "instances": 1,
                  "kill_timeout": 1600,
                  "last_reason": "exit 1",
                  "max_memory_restart": 20971520,
                  "max_restarts": 16,
                  "min_uptime": 1000,
                  "name": "mailer",
                  "namespace": "jobs",
                  "node_args": [],
                  "pm_cwd": "",
                  "pm_exec_path": "",
                  "pm_id": 7,
                  "pm_uptime": 0,
                  "restart_delay": 0,
                  "restart_time": 4,
                  "status": "waiting restart",
                  "treekill": true,
                  "unstable_restarts": 2,
                  "username": "root",
                  "version": "",
                  "watch": false
                },
                "pm_id": 7
              }
            ]
        "#]]
        .assert_eq(&json::pretty(&list));
    }
}
