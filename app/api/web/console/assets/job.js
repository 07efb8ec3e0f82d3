/* One job in a list: what it does, how it stands, and what can be done with it. */

import { element, hide, say } from "./elements.js";
import { STATUS, clock, duration, left, number, secondsBetween, title } from "./words.js";

/** What a retry is, or will be, worth waiting for. */
const TRIED = new Set(["PENDING", "STARTED", "SUCCESS"]);

export class JobRow {
  #actions;
  #now;
  #job;
  #nodes;

  /** `actions` has cancel, move, retry and open, each for a job; `now` is the server's time. */
  constructor(actions, now) {
    this.#actions = actions;
    this.#now = now;
    const button = (label, action) =>
      element("button", { type: "button", textContent: label, onclick: () => action(this.#job) });
    const nodes = {
      status: element("span", { className: "status" }),
      title: element("span", { className: "title" }),
      facts: element("span", { className: "facts" }),
      bar: element("progress", { max: 1 }),
      estimate: element("p", { className: "estimate" }),
      errors: element("ul", { className: "errors" }),
      refusal: element("p", { className: "refusal", hidden: true }),
      move: button("Move to front", actions.move),
      cancel: button("Cancel", actions.cancel),
      retry: button("Retry", actions.retry),
      open: button("Open copy", actions.open),
    };
    this.#nodes = nodes;
    this.element = element(
      "li",
      { className: "job", tabIndex: -1 },
      element(
        "div",
        { className: "head" },
        nodes.status,
        element("div", { className: "what" }, nodes.title, nodes.facts),
        element(
          "div",
          { className: "actions" },
          nodes.move,
          nodes.cancel,
          nodes.retry,
          nodes.open,
        ),
      ),
      nodes.bar,
      nodes.estimate,
      nodes.errors,
      nodes.refusal,
    );
  }

  update(job) {
    this.#job = job;
    const nodes = this.#nodes;
    const name = title(job);
    this.element.dataset.status = job.status;
    this.element.dataset.id = job.id;
    say(nodes.status, STATUS[job.status]);
    say(nodes.title, name);
    nodes.title.title = `${name} (job ${job.id})`;
    this.#offer(nodes.cancel, job.canCancel, `Cancel ${name}`);
    this.#offer(nodes.move, job.canMove, `Move to front: ${name}`);
    this.#offer(nodes.retry, job.canRetry && !TRIED.has(job.retriedBy?.status), `Retry ${name}`);
    this.#offer(nodes.open, Boolean(job.duplication?.result), `Open copy ${name}`);

    nodes.bar.hidden = job.status !== "STARTED";
    if (!nodes.bar.hidden) {
      const ratio = job.progress?.ratio;
      if (ratio == null) nodes.bar.removeAttribute("value");
      else nodes.bar.value = ratio;
      nodes.bar.setAttribute("aria-label", `Progress of ${name}`);
    }
    const errors = job.errors.nodes;
    nodes.errors.hidden = errors.length === 0;
    if (nodes.errors.children.length !== errors.length) {
      nodes.errors.replaceChildren(
        ...errors.map(({ code, message }) =>
          element("li", {}, message, " ", element("code", { textContent: code })),
        ),
      );
    }
    nodes.refusal.hidden = !job.refusal;
    say(nodes.refusal, job.refusal ? `Not done: ${job.refusal}` : "");
    this.element.ariaBusy = String(job.busy);
    this.tick();
  }

  /** Show what changes with nothing but time. */
  tick() {
    const job = this.#job;
    say(this.#nodes.facts, this.#facts(job));
    const estimate = this.#estimate(job);
    this.#nodes.estimate.hidden = !estimate;
    say(this.#nodes.estimate, estimate);
  }

  #facts(job) {
    const with_ = job.duplication?.includeProducts ? ["with products"] : [];
    if (job.retryOf) with_.push("a retry");
    if (job.retriedBy) with_.push("retried");
    const by = job.requestedBy ? [`by ${job.requestedBy}`] : [];
    switch (job.status) {
      case "PENDING":
        return [`asked ${clock(job.createdAt)}`, ...by, ...with_, ...this.#start(job)].join(" · ");
      case "STARTED":
        return [`began ${clock(job.startedAt)}`, ...by, ...with_].join(" · ");
      case "CANCELLED":
        return [clock(job.updatedAt), ...by, ...with_].join(" · ");
      default:
        return [
          clock(job.completedAt),
          `took ${duration(secondsBetween(job.startedAt, job.completedAt))}`,
          ...by,
          ...with_,
        ].join(" · ");
    }
  }

  #start({ estimatedStartAt }) {
    if (!estimatedStartAt) return [];
    const seconds = this.#until(estimatedStartAt);
    return [seconds > 1 ? `starts in about ${left(seconds)}` : "starts in a moment"];
  }

  #until(instant) {
    return (Date.parse(instant) - this.#now()) / 1000;
  }

  #estimate(job) {
    if (job.status !== "STARTED") return "";
    const { completed = 0, total, ratio, estimatedCompletionAt } = job.progress ?? {};
    if (total == null) return "Counting what is to be done";
    const done = `${Math.floor(ratio * 100)}% · ${number(completed)} of ${number(total)}`;
    if (!estimatedCompletionAt) return done;
    const seconds = this.#until(estimatedCompletionAt);
    return `${done} · ${seconds > 1 ? `about ${left(seconds)} left` : "done in a moment"}`;
  }

  #offer(button, offered, label) {
    button.setAttribute("aria-label", label);
    hide(button, !offered, this.element);
  }
}
