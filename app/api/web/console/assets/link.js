/* The subscription: connected again whenever it breaks, behind the last event that was heard. */

import { Refusal } from "./api.js";
import { JOB_EVENTS } from "./operations.js";

const FIRST_WAIT = 500; // milliseconds, doubled with every failure
const LONGEST_WAIT = 15_000;
const PING = 10_000;
const PONG = 5_000;
const ACKNOWLEDGED = 10_000;

const UNREADABLE = new Set(["CURSOR_EXPIRED", "CURSOR_INVALID"]);
const FINAL = new Set(["UNAUTHENTICATED", "FORBIDDEN"]);
const NO_TOKEN = new Set([4401, 4403]);

/**
 * Tells `event` (detail: what jobEvents tells), `state`, and `gap` where the events behind the
 * cursor are not to be had: read the lists anew, then follow their cursor.
 */
export class Link extends EventTarget {
  state = "connecting"; // then "live", "lost" or "refused"
  since = Date.now();
  /** When it tries again, in milliseconds; while it is lost. */
  nextTry = 0;
  reason = "";

  #api;
  #cursor;
  #client;
  #failures = 0;
  #timer;

  constructor(api) {
    super();
    this.#api = api;
    addEventListener("online", () => this.state === "lost" && this.retry());
  }

  follow(cursor) {
    this.#cursor = cursor;
    this.#failures = 0;
    this.#connect();
  }

  retry() {
    this.#connect();
  }

  stop() {
    clearTimeout(this.#timer);
    const client = this.#client;
    this.#client = undefined;
    // What never connected cannot be closed either.
    client?.dispose().catch(() => {});
  }

  #connect() {
    this.stop();
    const client = graphqlWs.createClient({
      url: this.#api.socket.href,
      connectionParams: this.#api.headers,
      retryAttempts: 0, // it would begin at the first cursor again
      keepAlive: PING,
      connectionAckWaitTimeout: ACKNOWLEDGED,
      on: {
        connected: () => this.#alive(client),
        // A network may die without a word.
        ping: (received) => received || (patience = setTimeout(() => client.terminate(), PONG)),
        pong: () => clearTimeout(patience),
        closed: () => clearTimeout(patience),
      },
    });
    let patience;
    this.#client = client;
    const ended = (cause) => this.#client === client && this.#ended(cause);
    client.subscribe(
      { query: JOB_EVENTS, variables: { after: this.#cursor } },
      {
        next: ({ data, errors }) => {
          if (this.#client !== client) return;
          if (errors) return ended(errors);
          this.#cursor = data.jobEvents.cursor;
          this.#failures = 0;
          this.dispatchEvent(new CustomEvent("event", { detail: data.jobEvents }));
        },
        error: ended,
        complete: () => ended(),
      },
    );
  }

  #alive(client) {
    if (this.#client === client) this.#become("live");
  }

  #ended(cause) {
    const refusal = Array.isArray(cause) ? Refusal.of(cause) : undefined;
    this.stop();
    if (UNREADABLE.has(refusal?.code)) {
      this.dispatchEvent(new Event("gap"));
    } else if (FINAL.has(refusal?.code) || NO_TOKEN.has(cause?.code)) {
      this.reason = refusal?.message ?? cause.reason;
      this.#become("refused", refusal?.code ?? "UNAUTHENTICATED");
    } else {
      // A connection that ends as soon as it begins is none.
      if (this.state === "live" && Date.now() - this.since > LONGEST_WAIT) this.#failures = 0;
      const wait = Math.min(FIRST_WAIT * 2 ** this.#failures, LONGEST_WAIT);
      this.#failures += 1;
      // Not all pages of a server that has restarted at the same instant.
      const spread = wait * (0.75 + Math.random() / 2);
      this.reason = refusal?.message ?? "";
      this.nextTry = Date.now() + spread;
      this.#timer = setTimeout(() => this.#connect(), spread);
      this.#become("lost");
    }
  }

  #become(state, code = "") {
    if (this.state !== state) this.since = Date.now();
    const before = this.state;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { before, code } }));
  }
}
