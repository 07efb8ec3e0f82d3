// The graphql-ws client against the gateway.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import * as gateway from "./gateway.mjs";
import { JOB_EVENTS, JOB_UPDATES, authorization, shown, token } from "./gateway.mjs";

/** A client on one socket that it opens at once, tries once, and keeps. */
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
for (let made = 0; made < 3; made++) jobs.push(await gateway.duplicate(client, hierarchy));
const lives = await Promise.all(
  jobs.map(({ id }) =>
    gateway.all(gateway.events(client, JOB_UPDATES, { id, after: start })).then((heard) => {
      assert.deepEqual(new Set(heard.map((event) => event.job.id)), new Set([id]));
      return heard.map((event) => event.type).filter((type) => type !== "PROGRESS");
    }),
  ),
);
assert.deepEqual(lives, Array(3).fill(["CREATED", "STARTED", "SUCCEEDED"]));
assert.equal(client.sockets, 1);
shown("subscriptions side by side on one socket");

const living = gateway.events(client, JOB_EVENTS, { after: start });
assert.equal((await living.next()).value.type, "CREATED");
for (const query of ["{ nonsense }", "{ jobQueue {", "subscription { nonsense }"]) {
  await assert.rejects(gateway.all(client.iterate({ query })), (errors) => {
    assert.ok(Array.isArray(errors), `${query}: ${errors}`);
    assert.ok(errors.length && errors.every((error) => error.message));
    return true;
  });
}
const afterwards = await gateway.duplicate(client, hierarchy);
await gateway.all(gateway.logged(living, afterwards));
assert.equal(client.sockets, 1);
shown("an invalid operation ends only itself");

const ids = [];
const told = new Map();
const counting = connect({
  generateID: () => {
    ids.push(String(ids.length));
    return ids.at(-1);
  },
  on: { message: ({ id }) => id !== undefined && told.set(id, (told.get(id) ?? 0) + 1) },
});
const ended = gateway.events(counting, JOB_EVENTS, { after: start });
await gateway.take(1, ended);
const [endedId] = ids;
// What was on its way has come before the answer of what was asked afterwards.
await gateway.endOfLog(counting);
const toldBefore = told.get(endedId);
await gateway.followToTheEnd(counting, hierarchy);
assert.equal(told.get(endedId), toldBefore);
assert.equal(counting.sockets, 1);
counting.terminate();
shown("nothing comes after unsubscribing");

const last = jobs.at(-1);
const log = await gateway.all(
  gateway.logged(gateway.events(client, JOB_EVENTS, { after: start }), last),
);
assert.ok(log.length >= 9);
for (let heard = 1; heard < log.length; heard++) {
  const broken = connect();
  const before = await gateway.take(
    heard,
    gateway.logged(gateway.events(broken, JOB_EVENTS, { after: start }), last),
  );
  broken.terminate();
  const resumed = connect();
  const { cursor: after } = before.at(-1);
  const behind = await gateway.all(
    gateway.logged(gateway.events(resumed, JOB_EVENTS, { after }), last),
  );
  assert.deepEqual([...before, ...behind], log);
  await resumed.dispose();
}
shown("a new socket resumes behind any cursor");

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
