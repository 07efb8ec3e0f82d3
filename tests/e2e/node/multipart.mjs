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

/** Apollo Client as a client of ours. */
function connect(headers) {
  const client = new ApolloClient({
    cache: new InMemoryCache(),
    link: new HttpLink({ uri: url, headers, fetch: fetchAndHear }),
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

/** What the last response has brought so far. */
let heard;
let contentType;
let status;

async function fetchAndHear(address, options) {
  const response = await fetch(address, options);
  status = response.status;
  contentType = response.headers.get("content-type");
  heard = "";
  const hear = new TransformStream({
    transform(chunk, controller) {
      heard += Buffer.from(chunk).toString("latin1");
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(hear), response);
}

/** What an observable tells, which ends with it. */
async function* each(observable) {
  const pending = [];
  let wake = () => {};
  const tell = (what) => {
    pending.push(what);
    wake();
  };
  const subscription = observable.subscribe({
    next: (value) => tell({ value }),
    error: (error) => tell({ error }),
    complete: () => tell({ done: true }),
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
assert.ok(/\r\n--graphql--(\r\n)?$/.test(heard), heard.slice(-80));
shown("a job from its snapshot to its end");

// A part ends where the next delimiter begins: one sent only with the next part is heard too late.
const start = await gateway.endOfLog(client);
const job = await gateway.duplicate(client, hierarchy);
for await (const event of gateway.events(client, JOB_EVENTS, { after: start })) {
  const [, behind] = heard.split(JSON.stringify(event.cursor));
  assert.ok(!/\{\}/.test(behind), `heard only with the heartbeat behind it: ${behind}`);
  if (event.type === "SUCCEEDED" && event.job.id === job.id) break;
}
shown("each event as soon as it happened");

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
