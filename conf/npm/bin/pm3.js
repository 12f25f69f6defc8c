#!/usr/bin/env node
// Becomes pm3: finds the binary for this machine, which came as an optional package beside this one, and executes it in
// place of Node. It never downloads anything, and where Node can be replaced nothing of it stays.
'use strict'
const fs = require('node:fs')
const { name } = require('../package.json')

// A shell's own codes for a command that is not there, and for one that cannot be executed.
const NOT_FOUND = 127
const NOT_EXECUTABLE = 126

function fail(code, why) {
  console.error(`[PM3][ERROR] ${why}`)
  process.exit(code)
}

function findBinary() {
  const platform = `${process.platform}-${process.arch}`
  try {
    return require.resolve(`${name}-${platform}/pm3`)
  } catch {
    const why = process.platform !== 'linux' ? 'pm3 is for Linux; run it in your container'
      : 'install with optional dependencies, on the kind of machine that it is to run on'
    return fail(NOT_FOUND, `no binary for ${platform}: the package ${name}-${platform} is not installed; ${why}`)
  }
}

// The terminal sends these to its whole foreground group: pm3 has them already, and would take a second one for haste.
function isFromKeyboard(signal) {
  if (signal !== 'SIGINT' && signal !== 'SIGQUIT') return false
  // proc_pid_stat(5), behind the name: state, parent, process group, session, terminal, the terminal's group.
  const fields = fs.readFileSync('/proc/self/stat', 'latin1').replace(/^.*\) /s, '').split(' ')
  return fields[2] === fields[5]
}

// For a Node without `process.execve`: it stays, hands on what it hears, and ends as pm3 does.
function accompany(binary, args) {
  const heard = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGPWR', 'SIGWINCH', 'SIGALRM']
  // Before pm3 is there: from then on a signal must not end Node alone. It is handed on when this function is through.
  for (const signal of heard) process.on(signal, () => isFromKeyboard(signal) || child.kill(signal))
  const child = require('node:child_process').spawn(binary, args, { argv0: 'pm3', stdio: 'inherit' })
  child.on('error', (error) => fail(NOT_EXECUTABLE, `${binary}: ${error.code}`))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    for (const one of heard) process.removeAllListeners(one)
    process.kill(process.pid, signal)
    // Still here: as PID 1, which no signal of its own ends.
    setTimeout(() => process.exit(128 + require('node:os').constants.signals[signal]), 1000)
  })
}

const binary = findBinary()
const args = process.argv.slice(2)
try {
  fs.accessSync(binary, fs.constants.X_OK)
} catch (error) {
  fail(NOT_EXECUTABLE, `${binary}: ${error.code}; install again, or make it executable`)
}
// Since Node 22.15 and 23.11. It does not return; what it cannot execute was found out above.
if (process.execve) process.execve(binary, ['pm3', ...args], process.env)
else accompany(binary, args)
