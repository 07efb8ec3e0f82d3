/* The queue: its lists, kept in step with the subscription, and what an operator does with it. */

import { Rows, byId, hide, say } from "./elements.js";
import { JobRow } from "./job.js";
import { PAGE } from "./jobs.js";
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

const FEW = 10;

const OUTCOME = { SUCCEEDED: "is done", FAILED: "has failed", STARTED: "has begun" };

export class Queue {
  #api;
  #jobs;
  #announcements;
  #refusals = new Map(); // by job: the page's own, no event tells them
  #busy = new Set(); // jobs, or buttons: none is disabled, which would take its focus
  #lists;
  #frame;
  #toppingUp = false;

  /** `open` shows a hierarchy by its id. */
  constructor(api, jobs, announcements, open) {
    this.#api = api;
    this.#jobs = jobs;
    this.#announcements = announcements;
    const actions = {
      cancel: (job) => this.#act(job, CANCEL, "is cancelled"),
      move: (job) => this.#act(job, MOVE, "is now the next to start"),
      retry: (job) => this.#act(job, RETRY, "is queued again"),
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
      // Once a frame, however many events come at once.
      this.#frame ??= requestAnimationFrame(() => this.#show());
    });
    byId("waiting-more").onclick = () => this.#readWaiting();
    byId("ended-more").onclick = () => this.#showMoreEnded();
    byId("pause").onclick = () => this.#askWhy();
    byId("pause-close").onclick = () => byId("pause-dialog").close();
    byId("pause-form").onsubmit = (event) => this.#pause(event);
    byId("resume").onclick = () => this.#resume();
  }

  /** Read the lists anew; the cursor that events follow them from. Throws Refusal. */
  async read() {
    const data = await this.#api.ask(QUEUE, { ended: Math.min(this.#jobs.shown, 4 * PAGE) });
    this.#jobs.read(data);
    return data.jobQueue.cursor;
  }

  /** Read what no event tells. Throws Refusal. */
  async stand() {
    this.#jobs.stand(await this.#api.ask(STANDING));
  }

  heard(event) {
    if (!this.#jobs.apply(event)) return;
    const outcome = OUTCOME[event.type];
    if (outcome) this.#announcements.say(`${title(event.job)} ${outcome}`);
  }

  tick() {
    for (const list of [this.#lists.running, this.#lists.waiting]) for (const row of list) row.tick();
  }

  #show() {
    this.#frame = undefined;
    const jobs = this.#jobs;
    const waiting = jobs.waiting.map((job, place) => ({ ...this.#dressed(job), canMove: place > 0 }));
    this.#list("running", jobs.running.map((job) => this.#dressed(job)));
    this.#list("waiting", waiting, jobs.moreWaiting !== null);
    this.#list("ended", jobs.ended.map((job) => this.#dressed(job)), jobs.hidesEnded);

    const pending = jobs.moreWaiting === null ? waiting.length : jobs.pending;
    say(byId("queue-count"), pending ? `${number(pending)} waiting` : "");
    const { pause } = jobs;
    const byWhom = pause?.by ? ` by ${pause.by}` : "";
    const why = pause?.reason ? `: ${pause.reason}` : ".";
    byId("paused").hidden = !pause;
    say(byId("paused"), pause ? `Paused since ${clock(pause.at)}${byWhom}${why}` : "");
    const [offered, other] = pause ? ["resume", "pause"] : ["pause", "resume"];
    byId(offered).hidden = false;
    hide(byId(other), true, byId(offered));
    if (jobs.moreWaiting !== null && waiting.length < FEW) this.#topUp();
  }

  #list(name, jobs, more = false) {
    this.#lists[name].show(jobs);
    byId(`${name}-empty`).hidden = jobs.length > 0;
    const button = byId(`${name}-more`);
    if (button) hide(button, !more, byId(`${name}-title`));
  }

  #dressed(job) {
    return { ...job, refusal: this.#refusals.get(job.id), busy: this.#busy.has(job.id) };
  }

  /** Ask for a change of a job. What becomes of it comes as an event. */
  async #act(job, operation, outcome) {
    if (this.#busy.has(job.id)) return;
    this.#refusals.delete(job.id);
    this.#busy.add(job.id);
    this.#show();
    try {
      const [payload] = Object.values(await this.#api.ask(operation, { id: job.id }));
      const [error] = payload.errors;
      if (error) throw error;
      this.#announcements.say(`${title(job)} ${outcome}`);
    } catch (refusal) {
      this.#refusals.set(job.id, refusal.message);
      this.#announcements.say(refusal.message);
    }
    this.#busy.delete(job.id);
    this.#show();
  }

  async #topUp() {
    if (this.#toppingUp) return;
    this.#toppingUp = true;
    await this.#readWaiting();
    this.#toppingUp = false;
  }

  async #readWaiting() {
    try {
      const after = this.#jobs.moreWaiting;
      this.#jobs.waitingRead(await this.#api.ask(MORE_WAITING, { after }));
    } catch (refusal) {
      this.#refused(refusal);
    }
  }

  async #showMoreEnded() {
    const jobs = this.#jobs;
    jobs.showMoreEnded();
    try {
      while (jobs.lacksEnded) {
        jobs.endedRead(await this.#api.ask(MORE_ENDED, { after: jobs.moreEnded }));
      }
    } catch (refusal) {
      this.#refused(refusal);
    }
  }

  #askWhy() {
    this.#refusedField("");
    byId("pause-reason").value = "";
    byId("pause-dialog").showModal();
  }

  async #pause(event) {
    event.preventDefault();
    if (this.#busy.has("pause")) return;
    this.#busy.add("pause");
    try {
      const reason = byId("pause-reason").value.trim() || null;
      const { pauseQueue } = await this.#api.ask(PAUSE, { reason });
      if (pauseQueue.errors.length) throw pauseQueue.errors[0];
      this.#announcements.say("The queue is paused");
      await this.stand();
      this.#show();
      byId("pause-dialog").close();
      byId("resume").focus();
    } catch (refusal) {
      this.#refusedField(refusal.message);
    }
    this.#busy.delete("pause");
  }

  #refusedField(message) {
    const field = byId("pause-reason");
    byId("pause-error").hidden = !message;
    say(byId("pause-error"), message);
    field.setAttribute("aria-invalid", String(Boolean(message)));
    if (message) field.focus();
  }

  async #resume() {
    if (this.#busy.has("resume")) return;
    this.#busy.add("resume");
    this.#refused();
    try {
      const { resumeQueue } = await this.#api.ask(RESUME);
      if (resumeQueue.errors.length) throw resumeQueue.errors[0];
      this.#announcements.say("The queue goes on");
      await this.stand();
      this.#show();
    } catch (refusal) {
      this.#refused(refusal);
    }
    this.#busy.delete("resume");
  }

  #refused(refusal) {
    byId("queue-refusal").hidden = !refusal;
    say(byId("queue-refusal"), refusal?.message ?? "");
    if (refusal) this.#announcements.say(refusal.message);
  }
}
