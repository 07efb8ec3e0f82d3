// The graphql-sse client against the gateway, with a connection per operation, and the resumption of
// an EventSource after a lost connection.
import assert from "node:assert/strict";
import { createClient, NetworkError } from "graphql-sse";
import * as gateway from "./gateway.mjs";
import { JOB_EVENTS, JOB_UPDATES, authorization, shown, token, url } from "./gateway.mjs";

const connect = (headers) =>
  createClient({ url, headers, singleConnection: false, retryAttempts: 0 });
const client = connect(authorization);

const hierarchy = await gateway.firstHierarchy(client);
shown("a query");

await gateway.duplicate(client, hierarchy);
shown("a mutation");

await gateway.followToTheEnd(client, hierarchy);
shown("a job from its snapshot to its end");

for (const query of ["{ nonsense }", "subscription { nonsense }"]) {
  const [result, ...more] = await gateway.all(client.iterate({ query }));
  assert.ok(result.errors.length && result.errors.every((error) => error.message));
  assert.ok(!("data" in result));
  assert.deepEqual(more, []);
}
shown("the errors of an invalid operation");

const start = await gateway.endOfLog(client);
const jobs = [];
for (let number = 0; number < 3; number++) jobs.push(await gateway.duplicate(client, hierarchy));
const last = jobs.at(-1);
// take() leaves the iteration, which unsubscribes.
const [first] = await gateway.take(1, gateway.events(client, JOB_EVENTS, { after: start }));
assert.equal(first.type, "CREATED");
assert.equal(first.job.id, jobs[0].id);
const log = await gateway.all(
  gateway.logged(gateway.events(client, JOB_EVENTS, { after: start }), last),
);
assert.ok(log.length >= 9);
shown("unsubscribing");

/** Yields the events of a stream with their ids, as a browser's EventSource reads them. */
async function* stream(query, variables, headers) {
  const leave = new AbortController();
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "text/event-stream",
      ...authorization,
      ...headers,
    },
    body: JSON.stringify({ query, variables }),
    signal: leave.signal,
  });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type"), /^text\/event-stream(;|$)/);
  let unread = "";
  try {
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (unread + text).split("\n\n");
      unread = blocks.pop();
      for (const block of blocks) {
        const event = {};
        for (const line of block.split("\n")) {
          const [, field, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line);
          // A line with an empty field name is a comment, sent as a heartbeat.
          if (field) event[field] = value;
        }
        if (!("event" in event)) continue;
        yield event;
        if (event.event === "complete") return;
      }
    }
    assert.fail("the stream ended without `complete`");
  } finally {
    leave.abort();
  }
}

/** Yields the events of a jobEvents stream, and checks that each id is the event's cursor. */
async function* withIds(streamed) {
  for await (const { event, id, data } of streamed) {
    assert.equal(event, "next");
    const { cursor, type, job } = JSON.parse(data).data.jobEvents;
    assert.equal(id, cursor);
    yield { cursor, type, job };
  }
}

const streamed = (headers) =>
  gateway.logged(withIds(stream(JOB_EVENTS, { after: start }, headers)), last);
assert.deepEqual(await gateway.all(streamed()), log);
shown("each event has its cursor as id");

for (let number = 1; number < log.length; number++) {
  const before = await gateway.take(number, streamed());
  // The same request again, with the id of the last event.
  const after = await gateway.all(streamed({ "Last-Event-ID": before.at(-1).cursor }));
  assert.deepEqual([...before, ...after], log);
}
shown("Last-Event-ID resumes after any event");

const ending = log.filter(({ id }) => id === last.id);
assert.deepEqual(
  ending.map(({ type }) => type),
  ["CREATED", "STARTED", "SUCCEEDED"],
);
const rest = [];
for await (const { event, data } of stream(
  JOB_UPDATES,
  { id: last.id },
  { "Last-Event-ID": ending[0].cursor },
)) {
  rest.push(event === "next" ? JSON.parse(data).data.jobUpdates.type : event);
}
assert.deepEqual(
  rest.filter((type) => type !== "PROGRESS"),
  ["STARTED", "SUCCEEDED", "complete"],
);
shown("Last-Event-ID resumes a job up to its end");

if (token) {
  for (const headers of [{}, { Authorization: `Bearer ${token}x` }]) {
    await assert.rejects(gateway.firstHierarchy(connect(headers)), (error) => {
      assert.ok(error instanceof NetworkError, error);
      assert.equal(error.response.status, 401);
      return true;
    });
  }
  shown("401 without a valid token");
}
