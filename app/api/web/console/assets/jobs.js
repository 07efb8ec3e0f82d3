/* The jobs as the page knows them: what was read, and every event since, by each job's version. */

const ENDED = new Set(["SUCCESS", "FAILED", "CANCELLED"]);

export const PAGE = 25;

/** What was forgotten lies anywhere: the list is read through again. */
const FROM_THE_START = undefined;

const endOf = (job) => job.completedAt ?? job.updatedAt;

export class Jobs extends EventTarget {
  /** How many wait on the server; an estimate between two looks at it where not all are here. */
  pending = 0;
  /** Set while no job is started. */
  pause = null;
  /** Where the rest of each list begins on the server: behind a cursor, null at its end. */
  moreWaiting = null;
  moreEnded = null;

  #held = new Map();
  #waiting = []; // ids, in the order they will run
  #shown = PAGE;

  get running() {
    return [...this.#held.values()].filter((job) => job.status === "STARTED");
  }

  get waiting() {
    return this.#waiting.map((id) => this.#held.get(id));
  }

  /** The last ones, newest end first. */
  get ended() {
    return this.#allEnded
      .sort((one, other) => (endOf(one) < endOf(other) ? 1 : -1))
      .slice(0, this.#shown);
  }

  /** How many ended ones are shown at most. */
  get shown() {
    return this.#shown;
  }

  /** Whether there are ended ones that are not shown. */
  get hidesEnded() {
    return this.moreEnded !== null || this.#allEnded.length > this.#shown;
  }

  /** Whether ended ones have to be read before as many are shown as are wanted. */
  get lacksEnded() {
    return this.moreEnded !== null && this.#allEnded.length < this.#shown;
  }

  showMoreEnded() {
    this.#shown += PAGE;
    this.#changed();
  }

  get #allEnded() {
    return [...this.#held.values()].filter((job) => ENDED.has(job.status));
  }

  /** Begin anew with what the Queue operation has read. */
  read({ jobQueue, queuedJobs, jobs }) {
    this.#held.clear();
    this.#waiting = [];
    if (jobQueue.running) this.#hold(jobQueue.running);
    for (const job of queuedJobs.nodes) this.#hold(job);
    for (const job of jobs.nodes) this.#hold(job);
    this.moreWaiting = next(queuedJobs.pageInfo);
    this.moreEnded = next(jobs.pageInfo);
    this.stand({ jobQueue, queuedJobs: { nodes: [] } });
  }

  /** Take what no event tells. */
  stand({ jobQueue, queuedJobs }) {
    this.pause = jobQueue.pause;
    this.pending = jobQueue.pending;
    for (const { id, version, estimatedStartAt } of queuedJobs.nodes) {
      const job = this.#held.get(id);
      if (job?.version === version) job.estimatedStartAt = estimatedStartAt;
    }
    this.#changed();
  }

  waitingRead({ queuedJobs }) {
    for (const job of queuedJobs.nodes) this.#hold(job);
    this.moreWaiting = next(queuedJobs.pageInfo);
    this.#changed();
  }

  endedRead({ jobs }) {
    for (const job of jobs.nodes) this.#hold(job);
    this.moreEnded = next(jobs.pageInfo);
    this.#changed();
  }

  /** Apply an event. Whether it was news. */
  apply({ type, previousStatus, job }) {
    const held = this.#held.get(job.id);
    if (held && job.version <= held.version) return false;
    if (type === "CREATED") this.pending += 1;
    if (previousStatus === "PENDING") this.pending -= 1;
    if (type === "MOVED") {
      this.#waiting = [job.id, ...this.#waiting.filter((id) => id !== job.id)];
    } else if (type === "CREATED" && !held && this.moreWaiting !== null) {
      // It waits behind those that are not here yet.
      this.#changed();
      return true;
    }
    this.#hold(job);
    const failed = this.#held.get(job.retryOf?.id);
    if (failed) failed.retriedBy = { id: job.id, status: job.status };
    this.#forget();
    this.#changed();
    return true;
  }

  #hold(job) {
    const held = this.#held.get(job.id);
    if (held && job.version < held.version) return;
    this.#held.set(job.id, job);
    const place = this.#waiting.indexOf(job.id);
    if (job.status === "PENDING" && place < 0) this.#waiting.push(job.id);
    if (job.status !== "PENDING" && place >= 0) this.#waiting.splice(place, 1);
  }

  /** Of ended jobs only those are kept that are shown, however long the page is open. */
  #forget() {
    const ended = this.#allEnded;
    if (ended.length < 2 * this.#shown) return;
    const kept = new Set(this.ended.map((job) => job.id));
    for (const { id } of ended) if (!kept.has(id)) this.#held.delete(id);
    this.moreEnded = FROM_THE_START;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const next = ({ hasNextPage, endCursor }) => (hasNextPage ? endCursor : null);
