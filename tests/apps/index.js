// The app of PM2's cheat sheet, as one finds it: a server if it has a $PORT, else something that is just there.
// It tells $TELL, a named pipe, when it is up and when it is asked to end; the fields let a test see what it was given.
'use strict'
const fs = require('node:fs')
const { name, NODE_APP_INSTANCE: instance, TELL, PORT, STAGE } = process.env

const tell = (what) => fs.appendFileSync(TELL,
  `${what} ${name} ${instance} pid=${process.pid} stage=${STAGE} args=${process.argv.slice(2)}\n`)

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    tell('bye')
    process.exit(0)
  })
}

const up = () => {
  tell('up')
  console.log(`${name} ${instance} is up`)
}
if (PORT) require('node:http').createServer((request, response) => response.end(`${process.pid}\n`)).listen(PORT, up)
else {
  setInterval(() => {}, 1 << 30)
  up()
}
