// urql with its normalized cache, typed by code generation, with subscriptions over graphql-ws.
import "./socket.mjs";
import assert from "node:assert/strict";
import { Client, fetchExchange, subscriptionExchange, type OperationResult } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { relayPagination } from "@urql/exchange-graphcache/extras";
import { shown, token, url } from "./gateway.mjs";
import {
  CancelDocument,
  DuplicateDocument,
  HierarchiesDocument,
  ItemDocument,
  JobEventsDocument,
  QueueDocument,
} from "./generated/graphql.js";
import schema from "./generated/introspection.json" with { type: "json" };
import { connect } from "./live.js";
import { showQueue } from "./queue.js";

const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
const live = connect(url.replace(/^http/, "ws"), token);
const client = new Client({
  url,
  fetchOptions: { headers },
  exchanges: [
    cacheExchange({
      schema,
      keys: { JobProgress: () => null, JobQueue: () => null },
      resolvers: { Query: { hierarchies: relayPagination() } },
    }),
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query = "", variables }) => ({
        subscribe: (sink) => ({ unsubscribe: live.subscribe({ query, variables }, sink) }),
      }),
    }),
  ],
});

/** Returns the data of an answer without errors. */
function dataOf<Data>({ data, error }: Pick<OperationResult<Data>, "data" | "error">): Data {
  assert.ok(data && !error, error);
  return data;
}

const first = 3;
const { pageInfo, edges } = dataOf(await client.query(HierarchiesDocument, { first })).hierarchies;
const after = pageInfo.endCursor;
dataOf(await client.query(HierarchiesDocument, { first, after }));
const whole = dataOf(client.readQuery(HierarchiesDocument, { first }) ?? {}).hierarchies;
assert.deepEqual(whole.edges.slice(0, first), edges);
assert.deepEqual([whole.edges.length, whole.totalCount, whole.pageInfo.hasNextPage], [5, 5, false]);
shown("a query, and its second page merged into the first");

const source = edges[0].node.id;
dataOf(await client.query(ItemDocument, { id: source }));
const { node } = dataOf(client.readQuery(ItemDocument, { id: source }) ?? {});
assert.equal(node?.__typename, "Hierarchy");
assert.deepEqual(
  node.children.nodes.map(({ name, parent }) => [name, parent.__typename]),
  [["a", "Hierarchy"], ["b", "Hierarchy"]],
);
shown("interfaces, read from the cache");

await showQueue(
  {
    duplicate: async (input) =>
      dataOf(await client.mutation(DuplicateDocument, { input })).duplicateHierarchy,
    cancel: async (jobId) =>
      dataOf(await client.mutation(CancelDocument, { input: { jobId } })).cancelJob,
    queue: async () => dataOf(await client.query(QueueDocument, {})),
    cached: () => dataOf(client.readQuery(QueueDocument, {}) ?? {}).jobs,
    follow: (after, onEvent) =>
      client
        .subscription(JobEventsDocument, { after })
        .subscribe((result) => onEvent(dataOf(result).jobEvents)).unsubscribe,
    terminate: () => live.terminate(),
  },
  source,
);
await live.dispose();
