// The server that tests/bench/cluster measures: it answers with its pid after $DELAY ms, and handles no signal. With
// $GRACEFUL it closes as a good server does: it takes no new connections, answers what it has with `Connection: close`,
// and ends with the last of them. GET /grow keeps 64 MB. With $LISTEN_FD it serves a socket that it inherits.
'use strict'
const http = require('node:http')
const net = require('node:net')

const delay = Number(process.env.DELAY)
const kept = []
let closing = false

const server = http.createServer((request, response) => {
  if (request.url === '/grow') kept.push(Buffer.alloc(64 << 20, 1))
  const answer = () => {
    if (closing) response.setHeader('Connection', 'close')
    response.end(String(process.pid))
  }
  delay > 0 ? setTimeout(answer, delay) : answer()
})

if (process.env.GRACEFUL) {
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      if (closing) return
      closing = true
      // Not http's own: that ends connections between two requests, and the next one may be on its way.
      net.Server.prototype.close.call(server, () => process.exit(0))
    })
  }
}

if (process.env.LISTEN_FD) server.listen({ fd: Number(process.env.LISTEN_FD) })
else server.listen(Number(process.env.PORT), '127.0.0.1')
