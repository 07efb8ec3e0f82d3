// Apollo Client, typed by code generation, with subscriptions over graphql-ws.
import "./socket.mjs";
import assert from "node:assert/strict";
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { relayStylePagination } from "@apollo/client/utilities";
import { OperationTypeNode } from "graphql";
import { shown, token, url } from "./gateway.mjs";
import {
  CancelDocument,
  DuplicateDocument,
  HierarchiesDocument,
  ItemDocument,
  JobEventsDocument,
  QueueDocument,
} from "./generated/graphql.js";
import generated from "./generated/possibleTypes.js";
import { connect } from "./live.js";
import { showQueue } from "./queue.js";

const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
const live = connect(url.replace(/^http/, "ws"), token);
const client = new ApolloClient({
  cache: new InMemoryCache({
    possibleTypes: generated.possibleTypes,
    typePolicies: { Query: { fields: { hierarchies: relayStylePagination(["filter"]) } } },
  }),
  link: ApolloLink.split(
    ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
    new GraphQLWsLink(live),
    new HttpLink({ uri: url, headers }),
  ),
});

/** Returns data that must exist: Apollo Client has thrown the errors of an answer. */
function required<Data>(data: Data | null | undefined): Data {
  assert.ok(data);
  return data;
}

const firstPage = { query: HierarchiesDocument, variables: { first: 3 } };
const list = client.watchQuery(firstPage);
const showing = list.subscribe(() => {});
const { pageInfo, edges } = required((await client.query(firstPage)).data).hierarchies;
const { data } = await list.fetchMore({ variables: { after: pageInfo.endCursor } });
const whole = required(client.readQuery(firstPage)).hierarchies;
assert.deepEqual(whole.edges, [...edges, ...required(data).hierarchies.edges]);
assert.deepEqual([whole.edges.length, whole.totalCount, whole.pageInfo.hasNextPage], [5, 5, false]);
showing.unsubscribe();
shown("a query, and its second page merged into the first");

const source = edges[0].node.id;
const item = { query: ItemDocument, variables: { id: source } };
await client.query(item);
const cachedItem = required(client.readQuery(item)).node;
assert.equal(cachedItem?.__typename, "Hierarchy");
assert.deepEqual(
  cachedItem.children.nodes.map(({ name, parent }) => [name, parent.__typename]),
  [["a", "Hierarchy"], ["b", "Hierarchy"]],
);
shown("interfaces, read from the cache");

await showQueue(
  {
    async duplicate(input) {
      const answer = await client.mutate({ mutation: DuplicateDocument, variables: { input } });
      return required(answer.data).duplicateHierarchy;
    },
    async cancel(jobId) {
      const input = { jobId };
      const answer = await client.mutate({ mutation: CancelDocument, variables: { input } });
      return required(answer.data).cancelJob;
    },
    queue: async () => required((await client.query({ query: QueueDocument })).data),
    cached: () => required(client.readQuery({ query: QueueDocument })).jobs,
    follow(after, onEvent) {
      const subscription = client
        .subscribe({ query: JobEventsDocument, variables: { after } })
        .subscribe(({ data, error }) => onEvent(required(data ?? assert.fail(error)).jobEvents));
      return () => subscription.unsubscribe();
    },
    terminate: () => live.terminate(),
  },
  source,
);
await live.dispose();

if (token) {
  const refused = new ApolloClient({
    cache: new InMemoryCache(),
    link: new GraphQLWsLink(connect(url.replace(/^http/, "ws"), `${token}x`)),
  });
  const error = await new Promise((resolve) =>
    refused.subscribe({ query: JobEventsDocument }).subscribe((result) => resolve(result.error)),
  );
  assert.match(String(error), /4403/);
  shown("4403 without a valid token");
}
