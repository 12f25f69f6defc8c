// A web server as one finds them: it knows its port from $PORT, says when it listens, and closes in order on SIGTERM.
// GET / answers; GET /grow keeps 100 MB; GET /crash ends the process with 9.
'use strict'
const http = require('node:http')

const kept = []
const who = `web ${process.env.NODE_APP_INSTANCE}`

const server = http.createServer((request, response) => {
  if (request.url === '/crash') process.exit(9)
  if (request.url === '/grow') kept.push(Buffer.alloc(100 << 20, 1))
  response.end(`${who} pid ${process.pid} says ${process.env.GREETING}\n`)
})

server.listen(process.env.PORT, '127.0.0.1', () => console.log(`${who} listens on ${server.address().port}`))

process.on('SIGTERM', () => server.close(() => {
  console.log(`${who} has closed`)
  process.exit(0)
}))
