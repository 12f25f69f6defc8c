// Express, as its documentation begins.
'use strict'
const app = require('express')()

app.get('/', (request, response) => { response.send(process.env.NODE_APP_INSTANCE) })
app.listen(process.env.PORT, process.env.HOST)
