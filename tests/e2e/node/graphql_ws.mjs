// The graphql-ws client against the gateway.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import * as gateway from "./gateway.mjs";
import { JOB_EVENTS, JOB_UPDATES, authorization, shown, token } from "./gateway.mjs";

/** Returns a client that opens one socket at once, keeps it, and does not reconnect. */
function connect(options) {
  const client = createClient({
    url: gateway.url.replace(/^http/, "ws"),
    webSocketImpl: WebSocket,
    connectionParams: token ? authorization : undefined,
    lazy: false,
    retryAttempts: 0,
    onNonLazyError: () => {},
    ...options,
  });
  client.sockets = 0;
  client.on("opened", () => client.sockets++);
  return client;
}

const client = connect();

const hierarchy = await gateway.firstHierarchy(client);
shown("a query");

await gateway.duplicate(client, hierarchy);
shown("a mutation");

await gateway.followToTheEnd(client, hierarchy);
shown("a job from its snapshot to its end");

const start = await gateway.endOfLog(client);
const jobs = [];
for (let number = 0; number < 3; number++) jobs.push(await gateway.duplicate(client, hierarchy));
const types = await Promise.all(
  jobs.map(({ id }) =>
    gateway.all(gateway.events(client, JOB_UPDATES, { id, after: start })).then((received) => {
      assert.deepEqual(new Set(received.map((event) => event.job.id)), new Set([id]));
      return received.map((event) => event.type).filter((type) => type !== "PROGRESS");
    }),
  ),
);
assert.deepEqual(types, Array(3).fill(["CREATED", "STARTED", "SUCCEEDED"]));
assert.equal(client.sockets, 1);
shown("concurrent subscriptions on one socket");

const open = gateway.events(client, JOB_EVENTS, { after: start });
assert.equal((await open.next()).value.type, "CREATED");
for (const query of ["{ nonsense }", "{ jobQueue {", "subscription { nonsense }"]) {
  await assert.rejects(gateway.all(client.iterate({ query })), (errors) => {
    assert.ok(Array.isArray(errors), `${query}: ${errors}`);
    assert.ok(errors.length && errors.every((error) => error.message));
    return true;
  });
}
const afterwards = await gateway.duplicate(client, hierarchy);
await gateway.all(gateway.logged(open, afterwards));
assert.equal(client.sockets, 1);
shown("an invalid operation ends only itself");

const ids = [];
const messages = new Map();
const counting = connect({
  generateID: () => {
    ids.push(String(ids.length));
    return ids.at(-1);
  },
  on: { message: ({ id }) => id !== undefined && messages.set(id, (messages.get(id) ?? 0) + 1) },
});
const ended = gateway.events(counting, JOB_EVENTS, { after: start });
await gateway.take(1, ended);
const [endedId] = ids;
// Messages on their way arrive before the answer to a later query.
await gateway.endOfLog(counting);
const messagesBefore = messages.get(endedId);
await gateway.followToTheEnd(counting, hierarchy);
assert.equal(messages.get(endedId), messagesBefore);
assert.equal(counting.sockets, 1);
counting.terminate();
shown("no event after unsubscribing");

const last = jobs.at(-1);
const log = await gateway.all(
  gateway.logged(gateway.events(client, JOB_EVENTS, { after: start }), last),
);
assert.ok(log.length >= 9);
for (let number = 1; number < log.length; number++) {
  const broken = connect();
  const before = await gateway.take(
    number,
    gateway.logged(gateway.events(broken, JOB_EVENTS, { after: start }), last),
  );
  broken.terminate();
  const resumed = connect();
  const { cursor: after } = before.at(-1);
  const rest = await gateway.all(
    gateway.logged(gateway.events(resumed, JOB_EVENTS, { after }), last),
  );
  assert.deepEqual([...before, ...rest], log);
  await resumed.dispose();
}
shown("a new socket resumes after any cursor");

await client.dispose();

if (token) {
  class SocketWithHeader extends WebSocket {
    constructor(address, protocols) {
      super(address, protocols, { headers: authorization });
    }
  }
  const byHeader = connect({ webSocketImpl: SocketWithHeader, connectionParams: undefined });
  await gateway.firstHierarchy(byHeader);
  await byHeader.dispose();
  shown("a token in the header");

  for (const connectionParams of [undefined, {}, { Authorization: `Bearer ${token}x` }]) {
    await assert.rejects(gateway.firstHierarchy(connect({ connectionParams })), { code: 4403 });
  }
  shown("4403 without a valid token");
}
