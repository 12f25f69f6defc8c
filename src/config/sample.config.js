// The apps of this project, for pm3. `pm3 start` in this directory starts them all, `pm3 check` says what pm3 makes of
// this file, and `pm3 check --keys` lists every key.
module.exports = {
  apps: [
    {
      name: 'web',
      script: './server.js', // what runs it follows from its ending; "interpreter" names another program, or "none"
      args: [],
      // cwd: '/srv/shop', // paths start there; without it, where pm3 was called

      // Side by side. A number, or "max": one for each processor that this machine or container gives to pm3.
      instances: 2,
      increment_var: 'PORT', // each has a port of its own: 3000 and 3001

      // Variables. Those of env_prod come on top with `pm3 start ecosystem.config.js --env prod`.
      env: { NODE_ENV: 'development', PORT: 3000 },
      env_prod: { NODE_ENV: 'production', PORT: 80 },

      // When it starts again: after a crash at once, or after a wait that grows from this one, in milliseconds.
      exp_backoff_restart_delay: 100,
      // So many runs in a row shorter than min_uptime, and it is errored.
      max_restarts: 16,
      min_uptime: '1s',
      // Its memory, children included. "80%" is a share of the container's limit.
      max_memory_restart: '300M',

      // How it stops: this signal, and SIGKILL after this long.
      kill_signal: 'SIGINT',
      kill_timeout: 8000,
    },
    {
      name: 'worker',
      script: './worker.py',
      // `after` is for order alone; `requires` waits until the other one is online, and fails with it.
      after: ['web'],
      // A restart when its files change. .git and node_modules are not looked at.
      watch: false, // or true, or ['lib', 'config']
      // ignore_watch: ['*.log'],
    },
    {
      name: 'report',
      script: 'echo "the daily report" | cat', // with blanks in it, it is a command line
      // Once a day at three, and not before.
      autostart: false,
      autorestart: false,
      cron_restart: '0 3 * * *',
    },
  ],
};
