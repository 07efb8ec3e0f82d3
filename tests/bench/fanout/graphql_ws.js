// graphql-ws on ws, the reference server of graphql-transport-ws, with a publisher in its process.
import { createServer } from 'node:http'
import { buildSchema } from 'graphql'
import { useServer } from 'graphql-ws/use/ws'
import { WebSocketServer } from 'ws'
import { SCHEMA, events } from './events.js'

const waiting = new Set()

/** Yields the events from now on; a subscriber is one resolver in `waiting`. */
async function* follow() {
  while (true) yield await new Promise((resolve) => waiting.add(resolve))
}

const server = createServer((request, response) => {
  const event = events.next().value
  const resolvers = [...waiting]
  waiting.clear()
  for (const resolve of resolvers) resolve({ jobEvents: event })
  request.resume()
  response.end('{}')
})
useServer(
  { schema: buildSchema(SCHEMA), roots: { subscription: { jobEvents: follow } } },
  new WebSocketServer({ server, path: '/graphql' }),
)
server.listen(0, '127.0.0.1', 8192, () => {
  console.log(`  GraphQL http://127.0.0.1:${server.address().port}/graphql`)
})
