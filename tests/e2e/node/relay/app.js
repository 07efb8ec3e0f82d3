// Relay: fragments with connections, their next pages, a mutation and a subscription.
import "../socket.mjs";
import assert from "node:assert/strict";
import {
  Environment,
  Network,
  Observable,
  RecordSource,
  Store,
  commitMutation,
  createOperationDescriptor,
  fetchQuery,
  getRequest,
  getSingularSelector,
  graphql,
  requestSubscription,
} from "relay-runtime";
import { shown, token, url } from "../gateway.mjs";
import { connect } from "../live.js";
import { showQueue } from "../queue.js";

const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
const live = connect(url.replace(/^http/, "ws"), token);
const environment = new Environment({
  store: new Store(new RecordSource()),
  network: Network.create(
    async ({ text: query }, variables) => {
      const answer = await fetch(url, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body: JSON.stringify({ query, variables }),
      });
      return answer.json();
    },
    ({ text: query }, variables) =>
      Observable.create((sink) => live.subscribe({ query, variables }, sink)),
  ),
});

const TREE = graphql`
  fragment app_tree on Hierarchy
  @refetchable(queryName: "appTreeQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "String" }) {
    nodes(first: $count, after: $cursor) @connection(key: "app_tree_nodes") {
      edges {
        node {
          name
          parent {
            __typename
          }
        }
      }
    }
  }
`;
const HIERARCHIES = graphql`
  query appHierarchiesQuery {
    hierarchies(first: 1) {
      nodes {
        id
        ...app_tree
      }
    }
  }
`;
const QUEUE = graphql`
  query appQueueQuery {
    jobQueue {
      cursor
    }
    jobs(first: 25) @connection(key: "app_jobs") {
      __id
      edges {
        node {
          id
          status
        }
      }
    }
  }
`;
const DUPLICATE = graphql`
  mutation appDuplicateMutation($input: DuplicateHierarchyInput!, $lists: [ID!]!) {
    duplicateHierarchy(input: $input) {
      job @prependNode(connections: $lists, edgeTypeName: "JobEdge") {
        id
        status
      }
      errors {
        __typename
        ... on UserError {
          message
          path
        }
      }
    }
  }
`;
const CANCEL = graphql`
  mutation appCancelMutation($input: CancelJobInput!) {
    cancelJob(input: $input) {
      job {
        id
        status
      }
      errors {
        __typename
        ... on UserError {
          message
          path
        }
        ... on JobNotCancellable {
          status
        }
      }
    }
  }
`;
const JOB_EVENTS = graphql`
  subscription appJobEventsSubscription($after: String) {
    jobEvents(after: $after) {
      cursor
      type
      job {
        id
        status
      }
    }
  }
`;

const query = (operation, variables = {}) =>
  fetchQuery(environment, operation, variables).toPromise();
const mutate = (mutation, variables) =>
  new Promise((onCompleted, onError) =>
    commitMutation(environment, { mutation, variables, onCompleted, onError }),
  );
const queueInStore = createOperationDescriptor(getRequest(QUEUE), {});
environment.retain(queueInStore);
const jobs = () => environment.lookup(queueInStore.fragment).data.jobs;

const { hierarchies } = await query(HIERARCHIES);
const [source] = hierarchies.nodes;
const tree = () => environment.lookup(getSingularSelector(TREE, source)).data.nodes;
const namesIn = ({ edges }) => edges.map(({ node }) => [node.name, node.parent.__typename]);
assert.deepEqual(namesIn(tree()), [["a", "Hierarchy"], ["b", "Hierarchy"]]);
assert.equal(tree().pageInfo.hasNextPage, true);
await query(TREE.metadata.refetch.operation, {
  id: source.id,
  cursor: tree().pageInfo.endCursor,
  count: 2,
});
assert.deepEqual(namesIn(tree()), [
  ["a", "Hierarchy"],
  ["b", "Hierarchy"],
  ["c", "HierarchyNode"],
]);
assert.equal(tree().pageInfo.hasNextPage, false);
shown("a fragment, and the second page of its connection");

await showQueue(
  {
    duplicate: async (input) =>
      (await mutate(DUPLICATE, { input, lists: [] })).duplicateHierarchy,
    cancel: async (jobId) => (await mutate(CANCEL, { input: { jobId } })).cancelJob,
    queue: () => query(QUEUE),
    cached: jobs,
    follow: (after, onEvent) =>
      requestSubscription(environment, {
        subscription: JOB_EVENTS,
        variables: { after },
        onNext: ({ jobEvents }) => onEvent(jobEvents),
        onError: (error) => assert.fail(error),
      }).dispose,
    terminate: () => live.terminate(),
  },
  source.id,
);

const before = jobs().edges;
const input = { hierarchyId: source.id };
const { job } = (await mutate(DUPLICATE, { input, lists: [jobs().__id] })).duplicateHierarchy;
assert.deepEqual(
  jobs().edges.map(({ node }) => node.id),
  [job.id, ...before.map(({ node }) => node.id)],
);
shown("a mutation prepends its result to a list");
await live.dispose();
