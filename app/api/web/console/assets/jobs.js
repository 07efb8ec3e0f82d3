/* The loaded jobs: lists from the server, with every later event applied by job version. */

const ENDED = new Set(["SUCCESS", "FAILED", "CANCELLED"]);

export const PAGE_SIZE = 25;

/** Dropped jobs can be anywhere in the list, so it is read again from the start. */
const FROM_THE_START = undefined;

const endOf = (job) => job.completedAt ?? job.updatedAt;

export class Jobs extends EventTarget {
  /** Pending jobs on the server; an estimate between two reads unless all are loaded. */
  pending = 0;
  /** Set while the queue is paused. */
  pause = null;
  /** Cursors after which the rest of each list begins; null at its end. */
  moreWaiting = null;
  moreEnded = null;

  #byId = new Map();
  #waiting = []; // ids, in the order they will run
  #shown = PAGE_SIZE;

  get running() {
    return [...this.#byId.values()].filter((job) => job.status === "STARTED");
  }

  get waiting() {
    return this.#waiting.map((id) => this.#byId.get(id));
  }

  /** The shown ended jobs, latest end first. */
  get ended() {
    return this.#allEnded
      .sort((left, right) => (endOf(left) < endOf(right) ? 1 : -1))
      .slice(0, this.#shown);
  }

  /** Max number of ended jobs shown. */
  get shown() {
    return this.#shown;
  }

  /** True if there are ended jobs that are not shown. */
  get hidesEnded() {
    return this.moreEnded !== null || this.#allEnded.length > this.#shown;
  }

  /** True if more ended jobs must be read to show `shown` of them. */
  get lacksEnded() {
    return this.moreEnded !== null && this.#allEnded.length < this.#shown;
  }

  showMoreEnded() {
    this.#shown += PAGE_SIZE;
    this.#notify();
  }

  get #allEnded() {
    return [...this.#byId.values()].filter((job) => ENDED.has(job.status));
  }

  /** Replace all jobs by a result of the Queue operation. */
  load({ jobQueue, queuedJobs, jobs }) {
    this.#byId.clear();
    this.#waiting = [];
    if (jobQueue.running) this.#store(jobQueue.running);
    for (const job of queuedJobs.nodes) this.#store(job);
    for (const job of jobs.nodes) this.#store(job);
    this.moreWaiting = next(queuedJobs.pageInfo);
    this.moreEnded = next(jobs.pageInfo);
    this.applyStanding({ jobQueue, queuedJobs: { nodes: [] } });
  }

  /** Apply a result of the Standing operation: what no event contains. */
  applyStanding({ jobQueue, queuedJobs }) {
    this.pause = jobQueue.pause;
    this.pending = jobQueue.pending;
    for (const { id, version, estimatedStartAt } of queuedJobs.nodes) {
      const job = this.#byId.get(id);
      if (job?.version === version) job.estimatedStartAt = estimatedStartAt;
    }
    this.#notify();
  }

  addWaiting({ queuedJobs }) {
    for (const job of queuedJobs.nodes) this.#store(job);
    this.moreWaiting = next(queuedJobs.pageInfo);
    this.#notify();
  }

  addEnded({ jobs }) {
    for (const job of jobs.nodes) this.#store(job);
    this.moreEnded = next(jobs.pageInfo);
    this.#notify();
  }

  /** Apply an event. Return false if its version is already known. */
  apply({ type, previousStatus, job }) {
    const known = this.#byId.get(job.id);
    if (known && job.version <= known.version) return false;
    if (type === "CREATED") this.pending += 1;
    if (previousStatus === "PENDING") this.pending -= 1;
    if (type === "MOVED") {
      this.#waiting = [job.id, ...this.#waiting.filter((id) => id !== job.id)];
    } else if (type === "CREATED" && !known && this.moreWaiting !== null) {
      // It waits after pending jobs that are not loaded.
      this.#notify();
      return true;
    }
    this.#store(job);
    const failed = this.#byId.get(job.retryOf?.id);
    if (failed) failed.retriedBy = { id: job.id, status: job.status };
    this.#dropHidden();
    this.#notify();
    return true;
  }

  #store(job) {
    const known = this.#byId.get(job.id);
    if (known && job.version < known.version) return;
    this.#byId.set(job.id, job);
    const index = this.#waiting.indexOf(job.id);
    if (job.status === "PENDING" && index < 0) this.#waiting.push(job.id);
    if (job.status !== "PENDING" && index >= 0) this.#waiting.splice(index, 1);
  }

  /** Keep only the shown ended jobs, so that memory stays bounded while the page is open. */
  #dropHidden() {
    const ended = this.#allEnded;
    if (ended.length < 2 * this.#shown) return;
    const shown = new Set(this.ended.map((job) => job.id));
    for (const { id } of ended) if (!shown.has(id)) this.#byId.delete(id);
    this.moreEnded = FROM_THE_START;
  }

  #notify() {
    this.dispatchEvent(new Event("change"));
  }
}

const next = ({ hasNextPage, endCursor }) => (hasNextPage ? endCursor : null);
