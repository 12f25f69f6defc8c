#!/usr/bin/env node
// Packs pm3 for npm: `node conf/npm/pack.js OUT BINARY…` writes a tarball for each static binary, which a machine of its
// kind installs (`os`, `cpu`), and one with the thin `bin/pm3.js` that depends on whichever of them fits. Nothing is run
// or downloaded when they are installed.
//
// The packages' name is `name` in package.json beside this file, and stands nowhere else: the others are made of it. It
// is a placeholder, and `private` keeps it from being published: `pm3` on npm is somebody else's. The version is
// Cargo.toml's.
'use strict'
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const here = __dirname
const top = path.join(here, '..', '..')

function fail(why) {
  console.error(`pack: ${why}`)
  process.exit(1)
}

// What npm calls the machine that a binary is for (elf(5)).
function cpuOf(file) {
  const elf = fs.readFileSync(file)
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2) fail(`${file}: no 64-bit ELF binary`)
  const cpu = { 62: 'x64', 183: 'arm64' }[elf.readUInt16LE(18)]
  if (!cpu) fail(`${file}: neither for x86_64 nor for aarch64`)
  const [start, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)]
  for (let at = start; at < start + size * count; at += size) {
    // PT_INTERP
    if (elf.readUInt32LE(at) === 3) fail(`${file}: not static, so it would need a machine with the same C library`)
  }
  return cpu
}

const [out, ...binaries] = process.argv.slice(2)
if (!out || binaries.length === 0) fail('usage: node conf/npm/pack.js OUT BINARY…')

const main = JSON.parse(fs.readFileSync(path.join(here, 'package.json'), 'utf8'))
const [, version] = /^version = "(.+)"$/m.exec(fs.readFileSync(path.join(top, 'Cargo.toml'), 'utf8'))

// All that can be wrong is found before anything is written.
const cpus = binaries.map(cpuOf)
if (new Set(cpus).size < cpus.length) fail('two binaries for one kind of machine')

const staging = fs.mkdtempSync(path.join(os.tmpdir(), 'pm3-npm-'))

// A package of this description, as a folder; `fill` puts its own files into it.
function stage(description, fill) {
  const folder = path.join(staging, path.basename(description.name))
  fs.mkdirSync(folder)
  fs.writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify({ name: description.name, version, ...description }, null, 2)}\n`)
  fs.copyFileSync(path.join(top, 'LICENSE'), path.join(folder, 'LICENSE'))
  fill(folder)
  return folder
}

const nameFor = (cpu) => `${main.name}-linux-${cpu}`

try {
  const folders = binaries.map((binary, at) => {
    const cpu = cpus[at]
    const description = `The pm3 binary for Linux on ${cpu}. Install ${main.name} instead.`
    // preferUnplugged: Yarn must not keep a program in an archive.
    const kind = { os: ['linux'], cpu: [cpu], files: ['pm3'], preferUnplugged: true }
    return stage({ name: nameFor(cpu), private: main.private, description, license: main.license, ...kind }, (folder) => {
      fs.copyFileSync(binary, path.join(folder, 'pm3'))
      fs.chmodSync(path.join(folder, 'pm3'), 0o755)
    })
  })
  const optionalDependencies = Object.fromEntries(cpus.map((cpu) => [nameFor(cpu), version]))
  folders.push(stage({ ...main, optionalDependencies }, (folder) => {
    fs.cpSync(path.join(here, 'bin'), path.join(folder, 'bin'), { recursive: true })
    const readme = fs.readFileSync(path.join(here, 'README.md'), 'utf8')
    fs.writeFileSync(path.join(folder, 'README.md'), readme.replaceAll('NAME', main.name))
  }))
  fs.mkdirSync(out, { recursive: true })
  const words = ['pack', '--silent', '--ignore-scripts', '--pack-destination', path.resolve(out)]
  // From a folder of its own, so that no project's settings take part.
  process.stdout.write(execFileSync('npm', [...words, ...folders], { cwd: staging }))
} finally {
  fs.rmSync(staging, { recursive: true })
}
