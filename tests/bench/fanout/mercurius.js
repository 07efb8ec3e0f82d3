// Mercurius with its own subscriptions and publisher, in one process.
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { SCHEMA, events } from './events.js'

const app = Fastify()
app.register(mercurius, {
  schema: SCHEMA,
  jit: 1,
  subscription: true,
  resolvers: {
    Subscription: {
      jobEvents: { subscribe: (_root, _arguments, { pubsub }) => pubsub.subscribe('events') },
    },
  },
})
app.post('/publish', async () => {
  app.graphql.pubsub.publish({ topic: 'events', payload: { jobEvents: events.next().value } })
  return {}
})
await app.listen({ port: 0, host: '127.0.0.1', backlog: 8192 })
console.log(`  GraphQL http://127.0.0.1:${app.server.address().port}/graphql`)
