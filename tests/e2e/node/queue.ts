// What every frontend has to show of a queue that nobody runs at first.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import type {
  CancelMutation,
  DuplicateHierarchyInput,
  DuplicateMutation,
  JobStatus,
} from "./generated/graphql.js";
import { explained } from "./refusals.js";

interface Jobs {
  edges: readonly { node: { id: string; status: JobStatus } }[];
}

interface Event {
  type: string;
  job: { id: string };
}

/** One of the libraries, as its script has set it up. */
export interface Frontend {
  duplicate(input: DuplicateHierarchyInput): Promise<DuplicateMutation["duplicateHierarchy"]>;
  cancel(jobId: string): Promise<CancelMutation["cancelJob"]>;
  /** Asks for the queue. */
  queue(): Promise<{ jobQueue: { cursor: string }; jobs: Jobs }>;
  /** The list of that answer as the cache has it now. */
  cached(): Jobs;
  /** Follows the events behind a cursor until it is told to stop. */
  follow(after: string, tell: (event: Event) => void): () => void;
  /** Tears the socket off. */
  terminate(): void;
}

/** The events as they come, but for PROGRESS, which the log does not hold. */
class Heard {
  readonly events: string[] = [];
  #wake = () => {};

  note({ type, job }: Event): void {
    if (type === "PROGRESS") return;
    this.events.push(`${type} ${job.id}`);
    this.#wake();
  }

  async until(number: number): Promise<void> {
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
  assert.match(explained(again), /^Only a pending job .*CANCELLED/);
  const [nameless] = (await frontend.duplicate({ hierarchyId, name: " " })).errors;
  assert.match(explained(nameless), /^input\.name: /);
  shown("refusals are told apart");

  const heard = new Heard();
  const stop = frontend.follow(jobQueue.cursor, (event) => heard.note(event));
  await heard.until(1);
  frontend.terminate();
  const last = await duplicated();
  await heard.until(2);
  shown("a new socket tells what follows");

  // The test does so when it reads this.
  shown("now another server, which runs the queue");
  await heard.until(6);
  const next = await duplicated();
  await heard.until(7);
  stop();
  assert.deepEqual(heard.events.slice(0, 7), [
    `CANCELLED ${cancelled}`,
    `CREATED ${last}`,
    `STARTED ${waiting}`,
    `SUCCEEDED ${waiting}`,
    `STARTED ${last}`,
    `SUCCEEDED ${last}`,
    `CREATED ${next}`,
  ]);
  shown("it tells what follows, nothing twice");

  assert.deepEqual(statuses(frontend.cached()), [[waiting, "SUCCESS"], [cancelled, "CANCELLED"]]);
  shown("events change the list in the cache");
}
