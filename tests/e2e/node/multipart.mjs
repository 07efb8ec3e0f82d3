// Apollo Client's HttpLink against the gateway: subscriptions over multipart.
import assert from "node:assert/strict";
import {
  ApolloClient,
  CombinedGraphQLErrors,
  HttpLink,
  InMemoryCache,
  gql,
} from "@apollo/client";
import { getMainDefinition } from "@apollo/client/utilities";
import * as gateway from "./gateway.mjs";
import { JOB_EVENTS, authorization, shown, token, url } from "./gateway.mjs";

/** Returns Apollo Client as a client of gateway.mjs. */
function connect(headers) {
  const client = new ApolloClient({
    cache: new InMemoryCache(),
    link: new HttpLink({ uri: url, headers, fetch: fetchAndRecord }),
    defaultOptions: { query: { fetchPolicy: "no-cache" }, mutate: { fetchPolicy: "no-cache" } },
  });
  return {
    async *iterate({ query, variables }) {
      const document = gql(query);
      const { operation } = getMainDefinition(document);
      if (operation === "query") yield client.query({ query: document, variables });
      else if (operation === "mutation") yield client.mutate({ mutation: document, variables });
      else yield* each(client.subscribe({ query: document, variables, fetchPolicy: "no-cache" }));
    },
  };
}

/** The body of the last response so far. */
let body;
let contentType;
let status;

async function fetchAndRecord(address, options) {
  const response = await fetch(address, options);
  status = response.status;
  contentType = response.headers.get("content-type");
  body = "";
  const record = new TransformStream({
    transform(chunk, controller) {
      body += Buffer.from(chunk).toString("latin1");
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(record), response);
}

/** Yields the values of an observable up to its end. */
async function* each(observable) {
  const pending = [];
  let wake = () => {};
  const push = (item) => {
    pending.push(item);
    wake();
  };
  const subscription = observable.subscribe({
    next: (value) => push({ value }),
    error: (error) => push({ error }),
    complete: () => push({ done: true }),
  });
  try {
    for (;;) {
      while (!pending.length) await new Promise((resolve) => (wake = resolve));
      const { value, error, done } = pending.shift();
      if (done) return;
      if (error) throw error;
      if (value.error) throw value.error;
      yield value;
    }
  } finally {
    subscription.unsubscribe();
  }
}

const client = connect(authorization);

const hierarchy = await gateway.firstHierarchy(client);
shown("a query");

await gateway.followToTheEnd(client, hierarchy);
assert.match(contentType, /^multipart\/mixed; ?boundary="?graphql"?(;|$)/);
assert.ok(/\r\n--graphql--(\r\n)?$/.test(body), body.slice(-80));
shown("a job from its snapshot to its end");

// A part ends with the next delimiter, which must be sent without waiting for the next part.
const start = await gateway.endOfLog(client);
const job = await gateway.duplicate(client, hierarchy);
for await (const event of gateway.events(client, JOB_EVENTS, { after: start })) {
  const [, rest] = body.split(JSON.stringify(event.cursor));
  assert.ok(!/\{\}/.test(rest), `delivered only with the following heartbeat: ${rest}`);
  if (event.type === "SUCCEEDED" && event.job.id === job.id) break;
}
shown("each event without delay");

await assert.rejects(
  gateway.all(client.iterate({ query: "subscription { nonsense }" })),
  /nonsense/,
);
shown("the errors of an invalid operation");

if (token) {
  for (const headers of [{}, { Authorization: `Bearer ${token}x` }]) {
    const refused = connect(headers);
    for (const query of [gateway.END_OF_LOG, JOB_EVENTS]) {
      await assert.rejects(gateway.all(refused.iterate({ query })), (error) => {
        assert.ok(CombinedGraphQLErrors.is(error), error);
        assert.equal(error.errors[0].extensions.code, "UNAUTHENTICATED");
        return true;
      });
      assert.equal(status, 401);
    }
  }
  shown("401 without a valid token");
}
