// Fastify, as its documentation begins.
'use strict'
const fastify = require('fastify')()

fastify.get('/', async () => process.env.NODE_APP_INSTANCE)
fastify.listen({ port: Number(process.env.PORT), host: process.env.HOST })
