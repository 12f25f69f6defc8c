// Node's own server, as its documentation begins. It handles no signal.
'use strict'
const { createServer } = require('node:http')

createServer((request, response) => response.end(process.env.NODE_APP_INSTANCE))
  .listen(process.env.PORT, process.env.HOST)
