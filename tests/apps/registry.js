// A package registry, as much of one as `npm install` asks for: offers the tarballs of a folder, and prints its port.
'use strict'
const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')

const folder = process.argv[2]
const packages = {}
for (const file of fs.readdirSync(folder)) {
  const tarball = path.join(folder, file)
  const description = JSON.parse(execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' }))
  const integrity = `sha512-${createHash('sha512').update(fs.readFileSync(tarball)).digest('base64')}`
  packages[description.name] = { file, description, integrity }
}

const server = require('node:http').createServer((request, response) => {
  const name = decodeURIComponent(request.url.slice(1))
  const known = packages[name]
  if (known) {
    const { file, integrity, description } = known
    const dist = { tarball: `http://127.0.0.1:${server.address().port}/${file}`, integrity }
    const versions = { [description.version]: { ...description, dist } }
    response.end(JSON.stringify({ name, 'dist-tags': { latest: description.version }, versions }))
  } else if (Object.values(packages).some(({ file }) => file === name)) {
    fs.createReadStream(path.join(folder, name)).pipe(response)
  } else {
    response.writeHead(404).end()
  }
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
