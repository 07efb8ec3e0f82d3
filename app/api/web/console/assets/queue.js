/* The queue: lists in sync with the subscription, and the actions of an operator. */

import { Rows, byId, hide, setText } from "./elements.js";
import { JobRow } from "./job.js";
import { PAGE_SIZE } from "./jobs.js";
import {
  CANCEL,
  MORE_ENDED,
  MORE_WAITING,
  MOVE,
  PAUSE,
  QUEUE,
  RESUME,
  RETRY,
  STANDING,
} from "./operations.js";
import { clock, number, title } from "./words.js";

const MIN_WAITING_ROWS = 10;

const OUTCOME = { SUCCEEDED: "is done", FAILED: "has failed", STARTED: "has started" };

export class Queue {
  #api;
  #jobs;
  #announcements;
  #refusals = new Map(); // by job id; not part of any event
  #busy = new Set(); // job ids and buttons; a disabled button would lose the focus
  #lists;
  #frame;
  #filling = false;

  /** `open(id)` shows a hierarchy. */
  constructor(api, jobs, announcements, open) {
    this.#api = api;
    this.#jobs = jobs;
    this.#announcements = announcements;
    const actions = {
      cancel: (job) => this.#run(job, CANCEL, "is cancelled"),
      move: (job) => this.#run(job, MOVE, "is now the next to start"),
      retry: (job) => this.#run(job, RETRY, "is queued again"),
      open: (job) => open(job.duplication.result.id),
    };
    const row = () => new JobRow(actions, () => api.now);
    this.#lists = Object.fromEntries(
      ["running", "waiting", "ended"].map((name) => [
        name,
        new Rows(byId(name), row, byId(`${name}-title`)),
      ]),
    );
    jobs.addEventListener("change", () => {
      // At most once per frame, for any number of events.
      this.#frame ??= requestAnimationFrame(() => this.#show());
    });
    byId("waiting-more").onclick = () => this.#readWaiting();
    byId("ended-more").onclick = () => this.#showMoreEnded();
    byId("pause").onclick = () => this.#openPauseDialog();
    byId("pause-close").onclick = () => byId("pause-dialog").close();
    byId("pause-form").onsubmit = (event) => this.#pause(event);
    byId("resume").onclick = () => this.#resume();
  }

  /** Read the lists again. Return the cursor of their events. Throws Refusal. */
  async read() {
    const ended = Math.min(this.#jobs.shown, 4 * PAGE_SIZE);
    const data = await this.#api.execute(QUEUE, { ended });
    this.#jobs.load(data);
    return data.jobQueue.cursor;
  }

  /** Read what no event contains. Throws Refusal. */
  async readStanding() {
    this.#jobs.applyStanding(await this.#api.execute(STANDING));
  }

  apply(event) {
    if (!this.#jobs.apply(event)) return;
    const outcome = OUTCOME[event.type];
    if (outcome) this.#announcements.announce(`${title(event.job)} ${outcome}`);
  }

  tick() {
    for (const list of [this.#lists.running, this.#lists.waiting]) for (const row of list) row.tick();
  }

  #show() {
    this.#frame = undefined;
    const jobs = this.#jobs;
    const waiting = jobs.waiting.map((job, index) => ({
      ...this.#rowItem(job),
      canMove: index > 0,
    }));
    this.#showList("running", jobs.running.map((job) => this.#rowItem(job)));
    this.#showList("waiting", waiting, jobs.moreWaiting !== null);
    this.#showList("ended", jobs.ended.map((job) => this.#rowItem(job)), jobs.hidesEnded);

    const pending = jobs.moreWaiting === null ? waiting.length : jobs.pending;
    setText(byId("queue-count"), pending ? `${number(pending)} waiting` : "");
    const { pause } = jobs;
    const author = pause?.by ? ` by ${pause.by}` : "";
    const reason = pause?.reason ? `: ${pause.reason}` : ".";
    byId("paused").hidden = !pause;
    setText(byId("paused"), pause ? `Paused since ${clock(pause.at)}${author}${reason}` : "");
    const [shown, hidden] = pause ? ["resume", "pause"] : ["pause", "resume"];
    byId(shown).hidden = false;
    hide(byId(hidden), true, byId(shown));
    if (jobs.moreWaiting !== null && waiting.length < MIN_WAITING_ROWS) this.#fillWaiting();
  }

  #showList(name, jobs, more = false) {
    this.#lists[name].show(jobs);
    byId(`${name}-empty`).hidden = jobs.length > 0;
    const button = byId(`${name}-more`);
    if (button) hide(button, !more, byId(`${name}-title`));
  }

  #rowItem(job) {
    return { ...job, refusal: this.#refusals.get(job.id), busy: this.#busy.has(job.id) };
  }

  /** Run a mutation of a job. An event reports the change. */
  async #run(job, operation, outcome) {
    if (this.#busy.has(job.id)) return;
    this.#refusals.delete(job.id);
    this.#busy.add(job.id);
    this.#show();
    try {
      const [payload] = Object.values(await this.#api.execute(operation, { id: job.id }));
      const [error] = payload.errors;
      if (error) throw error;
      this.#announcements.announce(`${title(job)} ${outcome}`);
    } catch (refusal) {
      this.#refusals.set(job.id, refusal.message);
      this.#announcements.announce(refusal.message);
    }
    this.#busy.delete(job.id);
    this.#show();
  }

  async #fillWaiting() {
    if (this.#filling) return;
    this.#filling = true;
    await this.#readWaiting();
    this.#filling = false;
  }

  async #readWaiting() {
    try {
      const after = this.#jobs.moreWaiting;
      this.#jobs.addWaiting(await this.#api.execute(MORE_WAITING, { after }));
    } catch (refusal) {
      this.#showQueueError(refusal);
    }
  }

  async #showMoreEnded() {
    const jobs = this.#jobs;
    jobs.showMoreEnded();
    try {
      while (jobs.lacksEnded) {
        jobs.addEnded(await this.#api.execute(MORE_ENDED, { after: jobs.moreEnded }));
      }
    } catch (refusal) {
      this.#showQueueError(refusal);
    }
  }

  #openPauseDialog() {
    this.#showPauseError("");
    byId("pause-reason").value = "";
    byId("pause-dialog").showModal();
  }

  async #pause(event) {
    event.preventDefault();
    if (this.#busy.has("pause")) return;
    this.#busy.add("pause");
    try {
      const reason = byId("pause-reason").value.trim() || null;
      const { pauseQueue } = await this.#api.execute(PAUSE, { reason });
      if (pauseQueue.errors.length) throw pauseQueue.errors[0];
      this.#announcements.announce("The queue is paused");
      await this.readStanding();
      this.#show();
      byId("pause-dialog").close();
      byId("resume").focus();
    } catch (refusal) {
      this.#showPauseError(refusal.message);
    }
    this.#busy.delete("pause");
  }

  #showPauseError(message) {
    const field = byId("pause-reason");
    byId("pause-error").hidden = !message;
    setText(byId("pause-error"), message);
    field.setAttribute("aria-invalid", String(Boolean(message)));
    if (message) field.focus();
  }

  async #resume() {
    if (this.#busy.has("resume")) return;
    this.#busy.add("resume");
    this.#showQueueError();
    try {
      const { resumeQueue } = await this.#api.execute(RESUME);
      if (resumeQueue.errors.length) throw resumeQueue.errors[0];
      this.#announcements.announce("The queue is resumed");
      await this.readStanding();
      this.#show();
    } catch (refusal) {
      this.#showQueueError(refusal);
    }
    this.#busy.delete("resume");
  }

  #showQueueError(refusal) {
    byId("queue-refusal").hidden = !refusal;
    setText(byId("queue-refusal"), refusal?.message ?? "");
    if (refusal) this.#announcements.announce(refusal.message);
  }
}
