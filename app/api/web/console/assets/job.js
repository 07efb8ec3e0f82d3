/* A row of a job list: description, state and actions. */

import { element, hide, setText } from "./elements.js";
import { STATUS, clock, countdown, duration, number, secondsBetween, title } from "./words.js";

/** A retry with one of these statuses makes another one superfluous. */
const RETRIED = new Set(["PENDING", "STARTED", "SUCCESS"]);

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
    setText(nodes.status, STATUS[job.status]);
    setText(nodes.title, name);
    nodes.title.title = `${name} (job ${job.id})`;
    this.#showAction(nodes.cancel, job.canCancel, `Cancel ${name}`);
    this.#showAction(nodes.move, job.canMove, `Move to front: ${name}`);
    const canRetry = job.canRetry && !RETRIED.has(job.retriedBy?.status);
    this.#showAction(nodes.retry, canRetry, `Retry ${name}`);
    this.#showAction(nodes.open, Boolean(job.duplication?.result), `Open copy ${name}`);

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
    setText(nodes.refusal, job.refusal ? `Not done: ${job.refusal}` : "");
    this.element.ariaBusy = String(job.busy);
    this.tick();
  }

  /** Update what depends on the current time. */
  tick() {
    const job = this.#job;
    setText(this.#nodes.facts, this.#facts(job));
    const estimate = this.#estimate(job);
    this.#nodes.estimate.hidden = !estimate;
    setText(this.#nodes.estimate, estimate);
  }

  #facts(job) {
    const details = job.duplication?.includeProducts ? ["with products"] : [];
    if (job.retryOf) details.push("a retry");
    if (job.retriedBy) details.push("retried");
    const by = job.requestedBy ? [`by ${job.requestedBy}`] : [];
    switch (job.status) {
      case "PENDING":
        return [
          `created ${clock(job.createdAt)}`,
          ...by,
          ...details,
          ...this.#start(job),
        ].join(" · ");
      case "STARTED":
        return [`started ${clock(job.startedAt)}`, ...by, ...details].join(" · ");
      case "CANCELLED":
        return [clock(job.updatedAt), ...by, ...details].join(" · ");
      default:
        return [
          clock(job.completedAt),
          `took ${duration(secondsBetween(job.startedAt, job.completedAt))}`,
          ...by,
          ...details,
        ].join(" · ");
    }
  }

  #start({ estimatedStartAt }) {
    if (!estimatedStartAt) return [];
    const seconds = this.#until(estimatedStartAt);
    return [seconds > 1 ? `starts in about ${countdown(seconds)}` : "starts in a moment"];
  }

  #until(instant) {
    return (Date.parse(instant) - this.#now()) / 1000;
  }

  #estimate(job) {
    if (job.status !== "STARTED") return "";
    const { completed = 0, total, ratio, estimatedCompletionAt } = job.progress ?? {};
    if (total == null) return "Counting nodes";
    const done = `${Math.floor(ratio * 100)}% · ${number(completed)} of ${number(total)}`;
    if (!estimatedCompletionAt) return done;
    const seconds = this.#until(estimatedCompletionAt);
    return `${done} · ${seconds > 1 ? `about ${countdown(seconds)} left` : "done in a moment"}`;
  }

  #showAction(button, available, label) {
    button.setAttribute("aria-label", label);
    hide(button, !available, this.element);
  }
}
