// The parts that every frontend passes, on a queue that has no runner at first.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import type {
  CancelMutation,
  DuplicateHierarchyInput,
  DuplicateMutation,
  JobStatus,
} from "./generated/graphql.js";
import { messageOf } from "./refusals.js";

interface Jobs {
  edges: readonly { node: { id: string; status: JobStatus } }[];
}

interface Event {
  type: string;
  job: { id: string };
}

/** A library as set up by its script. */
export interface Frontend {
  duplicate(input: DuplicateHierarchyInput): Promise<DuplicateMutation["duplicateHierarchy"]>;
  cancel(jobId: string): Promise<CancelMutation["cancelJob"]>;
  /** Queries the queue. */
  queue(): Promise<{ jobQueue: { cursor: string }; jobs: Jobs }>;
  /** Returns the current list of that answer in the cache. */
  cached(): Jobs;
  /** Follows the events after a cursor. Returns a function that stops. */
  follow(after: string, onEvent: (event: Event) => void): () => void;
  /** Aborts the socket. */
  terminate(): void;
}

/** The received events without PROGRESS, which the log does not hold. */
class ReceivedEvents {
  readonly events: string[] = [];
  #wake = () => {};

  add({ type, job }: Event): void {
    if (type === "PROGRESS") return;
    this.events.push(`${type} ${job.id}`);
    this.#wake();
  }

  async waitFor(number: number): Promise<void> {
    while (this.events.length < number) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

export async function showQueue(frontend: Frontend, hierarchyId: string): Promise<void> {
  async function duplicated(): Promise<string> {
    const { job, errors } = await frontend.duplicate({ hierarchyId });
    assert.deepEqual(errors, []);
    assert.equal(job?.status, "PENDING");
    return job.id;
  }

  const statuses = ({ edges }: Jobs) => edges.map(({ node }) => [node.id, node.status]);

  const cancelled = await duplicated();
  const waiting = await duplicated();
  const { jobQueue, jobs } = await frontend.queue();
  assert.deepEqual(statuses(jobs), [[waiting, "PENDING"], [cancelled, "PENDING"]]);
  assert.deepEqual((await frontend.cancel(cancelled)).errors, []);
  assert.deepEqual(statuses(frontend.cached()), [[waiting, "PENDING"], [cancelled, "CANCELLED"]]);
  shown("a mutation changes the list in the cache");

  const [again] = (await frontend.cancel(cancelled)).errors;
  assert.match(messageOf(again), /^Only a pending job .*CANCELLED/);
  const [nameless] = (await frontend.duplicate({ hierarchyId, name: " " })).errors;
  assert.match(messageOf(nameless), /^input\.name: /);
  shown("refusals are distinguished");

  const received = new ReceivedEvents();
  const stop = frontend.follow(jobQueue.cursor, (event) => received.add(event));
  await received.waitFor(1);
  frontend.terminate();
  const last = await duplicated();
  await received.waitFor(2);
  shown("a new socket delivers the following events");

  // The test replaces the server when it reads this line.
  shown("now another server, which runs the queue");
  await received.waitFor(6);
  const next = await duplicated();
  await received.waitFor(7);
  stop();
  assert.deepEqual(received.events.slice(0, 7), [
    `CANCELLED ${cancelled}`,
    `CREATED ${last}`,
    `STARTED ${waiting}`,
    `SUCCEEDED ${waiting}`,
    `STARTED ${last}`,
    `SUCCEEDED ${last}`,
    `CREATED ${next}`,
  ]);
  shown("it delivers the following events once");

  assert.deepEqual(statuses(frontend.cached()), [[waiting, "SUCCESS"], [cancelled, "CANCELLED"]]);
  shown("events change the list in the cache");
}
