/* Assembles the page, and keeps it in sync with the gateway. */

import { Announcements } from "./announcements.js";
import { Api, UNREACHABLE } from "./api.js";
import { Chart } from "./chart.js";
import { Duplicate } from "./duplicate.js";
import { byId, hide, setText } from "./elements.js";
import { Hierarchies } from "./hierarchies.js";
import { Jobs } from "./jobs.js";
import { Link } from "./link.js";
import { Queue } from "./queue.js";
import { Token } from "./token.js";
import { clock } from "./words.js";

/* Milliseconds. */
const STANDING_INTERVAL = 10_000; // between reads of what no event contains
const EVENT_DELAY = 1_500; // between an event and the read it causes, one for many events
const CHART_INTERVAL = 60_000;
const RETRY_DELAY = 3_000;
const NOTICE_TIME = 6_000; // of "Connected again"

const STATES = {
  connecting: "Connecting",
  live: "Live",
  lost: "Disconnected",
  refused: "Not allowed",
};

const token = new Token();
const api = new Api(token);
const announcements = new Announcements();
const jobs = new Jobs();
const link = new Link(api);
const chart = new Chart(api);
const queue = new Queue(api, jobs, announcements, (id) => hierarchies.visit(id));
const duplicate = new Duplicate(api, announcements);
const hierarchies = new Hierarchies(api, announcements, (hierarchy) => duplicate.open(hierarchy));

/** Read what the token allows, then follow the events. */
async function begin() {
  show("console");
  notice("");
  const read = async (part) => part.read().catch(showRefusal);
  const [cursor] = await Promise.all([queue, hierarchies, chart].map(read));
  if (cursor) link.follow(cursor);
}

/** Show a refusal, and its remedy if there is one. */
function showRefusal(refusal) {
  if (refusal.code === "UNAUTHENTICATED") return showTokenForm(token.value && refusal.message);
  if (refusal.code === UNREACHABLE) beginSoon();
  notice(refusal.message, "refused");
}

function show(id) {
  for (const main of ["console", "token"]) byId(main).hidden = main !== id;
  byId("forget").hidden = !token.value;
}

function showTokenForm(reason) {
  link.stop();
  notice("");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  setText(byId("link"), "Token needed");
  byId("link").dataset.state = "refused";
  show("token");
  setText(byId("token-why"), reason || "This gateway requires authentication.");
  byId("token-text").focus();
}

function notice(text, state = "") {
  byId("notice").dataset.state = text && state;
  setText(byId("notice-text"), text);
  hide(byId("retry-now"), state !== "lost", byId("queue-title"));
}

/** Errors of periodic reads are ignored: the next read repeats them. */
const ignore = () => {};

/** A function that runs `action` once, `delay` after its first call; later calls are merged. */
function debounced(delay, action) {
  let timer;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      action().catch(ignore);
    }, delay);
  };
}

const beginSoon = debounced(RETRY_DELAY, begin);
const chartSoon = debounced(EVENT_DELAY, () => chart.read());
const hierarchiesSoon = debounced(EVENT_DELAY, () => hierarchies.read());
const standingSoon = debounced(EVENT_DELAY, readStanding);

link.addEventListener("event", ({ detail }) => {
  queue.apply(detail);
  if (detail.type === "PROGRESS") return;
  chartSoon();
  standingSoon();
  if (detail.type === "SUCCEEDED") hierarchiesSoon();
});

link.addEventListener("gap", () => {
  begin();
  notice("Connected again. Some events are no longer stored; everything is read again.", "live");
});

link.addEventListener("state", ({ detail: { before, code } }) => {
  setText(byId("link"), STATES[link.state]);
  byId("link").dataset.state = link.state;
  if (link.state === "refused" && code === "UNAUTHENTICATED") {
    showTokenForm(link.reason);
  } else if (link.state === "refused") {
    notice(link.reason, "refused");
  } else if (link.state === "lost") {
    notice(`Disconnected since ${clock(link.since)}. ${link.reason}`.trim(), "lost");
  } else if (before === "lost") {
    notice("Connected again. Nothing was missed.", "live");
    setTimeout(() => link.state === "live" && notice(""), NOTICE_TIME);
    readStanding();
    chartSoon();
    hierarchiesSoon();
  }
});

async function readStanding() {
  if (document.hidden || byId("console").hidden || link.state === "lost") return;
  try {
    await queue.readStanding();
  } catch (refusal) {
    // The link reports an unreachable gateway.
    if (refusal.code !== UNREACHABLE) showRefusal(refusal);
  }
}

addEventListener("focus", readStanding);
setInterval(readStanding, STANDING_INTERVAL);
setInterval(() => document.hidden || byId("console").hidden || chartSoon(), CHART_INTERVAL);
setInterval(() => {
  queue.tick();
  const wait = Math.ceil((link.nextTry - Date.now()) / 1000);
  const next = wait > 0 ? `Next try in ${wait} s.` : "Trying now.";
  setText(byId("notice-countdown"), link.state === "lost" ? next : "");
}, 1000);

byId("retry-now").onclick = () => link.retry();
byId("token-form").onsubmit = (event) => {
  event.preventDefault();
  token.store(byId("token-text").value);
  byId("token-text").value = "";
  begin();
};
byId("forget").onclick = () => {
  token.forget();
  location.reload();
};

begin();
