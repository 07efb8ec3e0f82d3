// The events of both peers: created jobs, one after the other, in the gateway's shape.
import { randomUUID } from 'node:crypto'

export const SCHEMA = `
  type Job { id: ID! status: String! version: Int! }
  type JobEvent { cursor: String! type: String! at: String! job: Job! }
  type Query { version: String }
  type Subscription { jobEvents: JobEvent! }
`

function* created() {
  for (let seq = 1; ; seq++) {
    yield {
      cursor: Buffer.from(`events[${seq}]`).toString('base64url'),
      type: 'CREATED',
      at: new Date().toISOString(),
      job: { id: randomUUID(), status: 'PENDING', version: 1 },
    }
  }
}

export const events = created()
