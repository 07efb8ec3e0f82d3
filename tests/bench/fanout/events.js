// What both peers tell of: jobs that are created, one after the other, as the gateway would.
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
