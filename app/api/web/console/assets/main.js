/* Puts the page together, and keeps it in step with the gateway. */

import { Announcements } from "./announcements.js";
import { Api, UNREACHABLE } from "./api.js";
import { Chart } from "./chart.js";
import { Duplicate } from "./duplicate.js";
import { byId, hide, say } from "./elements.js";
import { Hierarchies } from "./hierarchies.js";
import { Jobs } from "./jobs.js";
import { Link } from "./link.js";
import { Queue } from "./queue.js";
import { Token } from "./token.js";
import { clock } from "./words.js";

const STAND = 10_000; // milliseconds between looks at what no event tells
const SOON = 1_500; // until what many events ask for is read, once for all of them
const LATER = 60_000;
const AGAIN = 3_000;
const BACK = 6_000; // how long the page says that it is connected again

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
const hierarchies = new Hierarchies(api, announcements, (hierarchy) => duplicate.ask(hierarchy));

/** Read what can be read with the token that is there, then follow. */
async function begin() {
  show("console");
  notice("");
  const read = async (what) => what.read().catch(refused);
  const [cursor] = await Promise.all([queue, hierarchies, chart].map(read));
  if (cursor) link.follow(cursor);
}

/** Tell what was refused, and what can be done about it. */
function refused(refusal) {
  if (refusal.code === "UNAUTHENTICATED") return askForToken(token.value && refusal.message);
  if (refusal.code === UNREACHABLE) beginSoon();
  notice(refusal.message, "refused");
}

function show(id) {
  for (const one of ["console", "token"]) byId(one).hidden = one !== id;
  byId("forget").hidden = !token.value;
}

function askForToken(why) {
  link.stop();
  notice("");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  say(byId("link"), "Token needed");
  byId("link").dataset.state = "refused";
  show("token");
  say(byId("token-why"), why || "This gateway answers to those who say who they are.");
  byId("token-text").focus();
}

function notice(text, state = "") {
  byId("notice").dataset.state = text && state;
  say(byId("notice-text"), text);
  hide(byId("retry-now"), state !== "lost", byId("queue-title"));
}

/** What is only read to be up to date is read again anyway. */
const quiet = () => {};

/** Run it once, a while after it was wanted, however often it is wanted meanwhile. */
function later(wait, work) {
  let timer;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      work().catch(quiet);
    }, wait);
  };
}

const beginSoon = later(AGAIN, begin);
const chartSoon = later(SOON, () => chart.read());
const hierarchiesSoon = later(SOON, () => hierarchies.read());
const standSoon = later(SOON, stand);

link.addEventListener("event", ({ detail }) => {
  queue.heard(detail);
  if (detail.type === "PROGRESS") return;
  chartSoon();
  standSoon();
  if (detail.type === "SUCCEEDED") hierarchiesSoon();
});

link.addEventListener("gap", () => {
  begin();
  notice("Connected again. Not all that happened is still kept; everything is read anew.", "live");
});

link.addEventListener("state", ({ detail: { before, code } }) => {
  say(byId("link"), STATES[link.state]);
  byId("link").dataset.state = link.state;
  if (link.state === "refused" && code === "UNAUTHENTICATED") {
    askForToken(link.reason);
  } else if (link.state === "refused") {
    notice(link.reason, "refused");
  } else if (link.state === "lost") {
    notice(`Disconnected since ${clock(link.since)}. ${link.reason}`.trim(), "lost");
  } else if (before === "lost") {
    notice("Connected again. Nothing was missed.", "live");
    setTimeout(() => link.state === "live" && notice(""), BACK);
    stand();
    chartSoon();
    hierarchiesSoon();
  }
});

async function stand() {
  if (document.hidden || byId("console").hidden || link.state === "lost") return;
  try {
    await queue.stand();
  } catch (refusal) {
    // A gateway that is away is told of by the link.
    if (refusal.code !== UNREACHABLE) refused(refusal);
  }
}

addEventListener("focus", stand);
setInterval(stand, STAND);
setInterval(() => document.hidden || byId("console").hidden || chartSoon(), LATER);
setInterval(() => {
  queue.tick();
  const wait = Math.ceil((link.nextTry - Date.now()) / 1000);
  const next = wait > 0 ? `Next try in ${wait} s.` : "Trying now.";
  say(byId("notice-countdown"), link.state === "lost" ? next : "");
}, 1000);

byId("retry-now").onclick = () => link.retry();
byId("token-form").onsubmit = (event) => {
  event.preventDefault();
  token.keep(byId("token-text").value);
  byId("token-text").value = "";
  begin();
};
byId("forget").onclick = () => {
  token.forget();
  location.reload();
};

begin();
