/* Chart of the last 24 hours: jobs by outcome and their durations, per hour. */

import { byId, draw, element, setText } from "./elements.js";
import { HOURS } from "./operations.js";
import { duration, number, pluralize } from "./words.js";

const HEIGHT = 132;
const MIDDLE = 84; // bars above, durations below
const LEFT = 34;
const BOTTOM = 14;
const HOUR = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

/** Segments of a bar, from bottom to top. */
const STACK = [
  ["success", "Done"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
  ["open", "Open"],
];

export class Chart {
  #api;
  #hours = [];

  constructor(api) {
    this.#api = api;
    new ResizeObserver(() => this.#draw()).observe(byId("chart"));
  }

  /** Throws Refusal. */
  async read() {
    const { jobQueue } = await this.#api.execute(HOURS);
    this.#hours = jobQueue.hours.map((hour) => ({
      ...hour,
      open: hour.pending + hour.started,
      jobs: hour.pending + hour.started + hour.success + hour.failed + hour.cancelled,
    }));
    setText(byId("chart-count"), pluralize(sum(this.#hours, "jobs"), "job"));
    this.#draw();
    this.#tabulate();
  }

  #draw() {
    const hours = this.#hours;
    const width = byId("chart").clientWidth;
    if (!hours.length || !width) return;
    const step = (width - LEFT) / hours.length;
    const maxJobs = Math.max(1, ...hours.map((hour) => hour.jobs));
    const longest = Math.max(0, ...hours.map((hour) => hour.longestSeconds ?? 0));
    const bottom = HEIGHT - BOTTOM;
    const x = (index) => LEFT + index * step;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img" });
    svg.setAttribute("aria-label", this.#summary());

    svg.append(
      line("axis", LEFT, MIDDLE - 12, width, MIDDLE - 12),
      line("axis", LEFT, bottom, width, bottom),
      label(LEFT - 6, 10, number(maxJobs), "end"),
      label(LEFT - 6, MIDDLE - 12, "0", "end"),
      label(LEFT - 6, MIDDLE + 6, longest ? duration(longest) : "", "end"),
    );
    hours.forEach((hour, index) => {
      const bar = draw("g", {}, draw("title", {}, this.#hourSummary(hour)));
      bar.append(draw("rect", box("hit", x(index), 0, step, bottom)));
      let y = MIDDLE - 12;
      for (const [status] of STACK) {
        const height = (hour[status] / maxJobs) * (MIDDLE - 16);
        if (!height) continue;
        const shown = Math.max(height, 1.5);
        y -= shown;
        bar.append(draw("rect", box(status, x(index) + 1.5, y, Math.max(1, step - 3), shown)));
      }
      if (hour.longestSeconds !== null && longest) {
        const at = (seconds) => bottom - (seconds / longest) * (bottom - MIDDLE - 2);
        const middle = x(index) + step / 2;
        bar.append(
          line("range", middle, at(hour.averageSeconds), middle, at(hour.longestSeconds)),
          draw("circle", { class: "average", cx: middle, cy: at(hour.averageSeconds), r: 2.5 }),
          line("longest", middle - 3, at(hour.longestSeconds), middle + 3, at(hour.longestSeconds)),
        );
      }
      const time = HOUR.format(new Date(hour.begins));
      if (index % 6 === 0) bar.append(label(x(index), HEIGHT - 2, time));
      svg.append(bar);
    });
    svg.append(label(width, HEIGHT - 2, "now", "end"));
    byId("chart").replaceChildren(svg, legend());
  }

  #tabulate() {
    const cells = (hour) => [
      ...STACK.map(([status]) => number(hour[status])),
      hour.averageSeconds === null ? "–" : duration(hour.averageSeconds),
      hour.longestSeconds === null ? "–" : duration(hour.longestSeconds),
    ];
    byId("chart-rows").replaceChildren(
      ...this.#hours.toReversed().map((hour) =>
        element(
          "tr",
          {},
          element("th", { scope: "row", textContent: HOUR.format(new Date(hour.begins)) }),
          ...cells(hour).map((text) => element("td", { textContent: text })),
        ),
      ),
    );
  }

  #summary() {
    const parts = STACK.map(([status, name]) => [sum(this.#hours, status), name.toLowerCase()])
      .filter(([count]) => count)
      .map(([count, name]) => `${number(count)} ${name}`);
    return `Jobs of the last 24 hours by the hour: ${parts.join(", ") || "none"}.`;
  }

  #hourSummary(hour) {
    const parts = STACK.filter(([status]) => hour[status]).map(
      ([status, name]) => `${number(hour[status])} ${name.toLowerCase()}`,
    );
    const took =
      hour.averageSeconds === null
        ? ""
        : `; ${duration(hour.averageSeconds)} on average, ${duration(hour.longestSeconds)} at most`;
    return `${HOUR.format(new Date(hour.begins))}: ${parts.join(", ") || "no jobs"}${took}`;
  }
}

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);

const box = (name, x, y, width, height) => ({ class: name, x, y, width, height });

const line = (name, x1, y1, x2, y2) => draw("line", { class: name, x1, y1, x2, y2 });

const label = (x, y, text, anchor = "start") => draw("text", { x, y, "text-anchor": anchor }, text);

function legend() {
  const entries = [...STACK, ["average", "Average duration"], ["longest", "Longest"]];
  return element(
    "figcaption",
    { className: "legend" },
    ...entries.map(([name, text]) =>
      element("span", {}, element("i", { className: `key ${name}`, ariaHidden: "true" }), text),
    ),
  );
}
