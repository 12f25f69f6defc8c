// The app of PM2's cheat sheet, as one finds it: a server if it has a $PORT, else something that is just there.
// It tells $TELL, a named pipe, when it is up and when it is asked to end; the fields let a test see what it was given.
'use strict'
const fs = require('node:fs')
const { name, NODE_APP_INSTANCE: instance, TELL, PORT, STAGE } = process.env

const tell = (what) => {
  const port = server.address()?.port
  const fields = `pid=${process.pid} port=${port} stage=${STAGE} args=${process.argv.slice(2)}`
  fs.appendFileSync(TELL, `${what} ${name} ${instance} ${fields}\n`)
}

// GET /last is answered when the end has been asked for: a request that is at hand then.
const atHand = []
let ending = false
const server = require('node:http').createServer((request, response) => {
  if (request.url === '/last') atHand.push(response)
  else response.end(`${process.pid}\n`)
})

for (const signal of ['SIGTERM', 'SIGINT']) {
  // A platform may signal everybody, and pm3 signals too: the second one must not end this.
  process.on(signal, () => {
    if (ending) return
    ending = true
    tell('bye')
    server.close()
    for (const response of atHand) response.end('the last one\n', () => process.exit(0))
    if (atHand.length === 0) process.exit(0)
  })
}

// A leak.
const kept = []
process.on('SIGUSR2', () => kept.push(Buffer.alloc(40 << 20, 1)))

const up = () => {
  tell('up')
  console.log(`${name} ${instance} is up`)
}
if (PORT) server.listen(PORT, '127.0.0.1', up)
else {
  setInterval(() => {}, 1 << 30)
  up()
}
