// Arguments, operations and time limit of the scripts. A client is an object with the method
// `iterate({ query, variables })` of graphql-ws and graphql-sse.
import assert from "node:assert/strict";

export const [url, token] = process.argv.slice(2);
export const authorization = token ? { Authorization: `Bearer ${token}` } : {};

const SECONDS = 30;

setTimeout(() => {
  console.error(`not at its end after ${SECONDS} s`);
  process.exit(1);
}, SECONDS * 1000).unref();

const EVENT = "cursor type job { id status }";

export const HIERARCHIES = "{ hierarchies(first: 1) { nodes { id } } }";
export const END_OF_LOG = "{ jobQueue { cursor } }";
export const DUPLICATE = `
  mutation ($hierarchyId: ID!) {
    duplicateHierarchy(input: { hierarchyId: $hierarchyId }) {
      job { id status }
      errors { __typename }
    }
  }`;
export const JOB_UPDATES = `
  subscription ($id: ID!, $after: String) { jobUpdates(id: $id, after: $after) { ${EVENT} } }`;
export const JOB_EVENTS = `
  subscription ($after: String) { jobEvents(after: $after) { ${EVENT} } }`;

/** Reports a passed part to the test. */
export function shown(part) {
  console.log(part);
}

export async function all(results) {
  const collected = [];
  for await (const result of results) collected.push(result);
  return collected;
}

/** Returns the data of a query or mutation, which has one result. */
export async function answer(client, query, variables) {
  const results = await all(client.iterate({ query, variables }));
  assert.equal(results.length, 1, `${results.length} results of ${query}`);
  assert.equal(results[0].errors, undefined);
  return results[0].data;
}

/** Yields the events of a subscription. */
export async function* events(client, query, variables) {
  for await (const { data, errors } of client.iterate({ query, variables })) {
    assert.equal(errors, undefined);
    yield Object.values(data)[0];
  }
}

export async function firstHierarchy(client) {
  const { hierarchies } = await answer(client, HIERARCHIES);
  assert.equal(hierarchies.nodes.length, 1);
  return hierarchies.nodes[0].id;
}

export async function endOfLog(client) {
  return (await answer(client, END_OF_LOG)).jobQueue.cursor;
}

/** Enqueues a duplication and returns its job. */
export async function duplicate(client, hierarchyId) {
  const { job, errors } = (await answer(client, DUPLICATE, { hierarchyId })).duplicateHierarchy;
  assert.deepEqual(errors, []);
  assert.equal(job.status, "PENDING");
  return job;
}

/** Follows a new job from its SNAPSHOT to its end. */
export async function followToTheEnd(client, hierarchyId) {
  for (;;) {
    const { id } = await duplicate(client, hierarchyId);
    const received = await all(events(client, JOB_UPDATES, { id }));
    // The job ended before the subscription started: try another.
    if (received.length === 1 && received[0].job.status === "SUCCESS") continue;
    assert.deepEqual(new Set(received.map((event) => event.job.id)), new Set([id]));
    assert.equal(received[0].type, "SNAPSHOT");
    assert.deepEqual([received.at(-1).type, received.at(-1).job.status], ["SUCCEEDED", "SUCCESS"]);
    for (const { type } of received.slice(1, -1)) assert.match(type, /^(STARTED|PROGRESS)$/);
    return;
  }
}

/** Yields the events that the log holds (all but PROGRESS), up to the success of the job `last`. */
export async function* logged(events, last) {
  for await (const { cursor, type, job } of events) {
    if (type !== "PROGRESS") yield { cursor, type, id: job.id };
    if (type === "SUCCEEDED" && job.id === last.id) return;
  }
}

export async function take(number, results) {
  const taken = [];
  for await (const result of results) {
    taken.push(result);
    if (taken.length === number) return taken;
  }
  assert.fail(`ended after ${taken.length} of ${number}`);
}
