/* The jobEvents subscription, which reconnects after the last received event. */

import { Refusal } from "./api.js";
import { JOB_EVENTS } from "./operations.js";
import { reviveShown } from "./words.js";

const MIN_DELAY = 500; // milliseconds, doubled with every failure
const MAX_DELAY = 15_000;
const PING_INTERVAL = 10_000;
const PONG_TIMEOUT = 5_000;
const ACKNOWLEDGE_TIMEOUT = 10_000;

const CURSOR_ERRORS = new Set(["CURSOR_EXPIRED", "CURSOR_INVALID"]);
const ACCESS_ERRORS = new Set(["UNAUTHENTICATED", "FORBIDDEN"]);
const ACCESS_CLOSE_CODES = new Set([4401, 4403]);

/**
 * Dispatches `event` (detail: a result of jobEvents), `state`, and `gap` if the events after the
 * cursor no longer exist: read the lists again, then follow their cursor.
 */
export class Link extends EventTarget {
  state = "connecting"; // then "live", "lost" or "refused"
  since = Date.now();
  /** Time of the next attempt while disconnected, in milliseconds. */
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
    // A connection that was never open cannot be closed.
    client?.dispose().catch(() => {});
  }

  #connect() {
    this.stop();
    const client = graphqlWs.createClient({
      url: this.#api.socket.href,
      connectionParams: this.#api.headers,
      retryAttempts: 0, // graphql-ws would retry with the first cursor
      keepAlive: PING_INTERVAL,
      jsonMessageReviver: reviveShown,
      connectionAckWaitTimeout: ACKNOWLEDGE_TIMEOUT,
      on: {
        connected: () => this.#connected(client),
        // A network can fail without closing the socket.
        ping: (received) => {
          if (!received) timeout = setTimeout(() => client.terminate(), PONG_TIMEOUT);
        },
        pong: () => clearTimeout(timeout),
        closed: () => clearTimeout(timeout),
      },
    });
    let timeout;
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

  #connected(client) {
    if (this.#client === client) this.#setState("live");
  }

  #ended(cause) {
    const refusal = Array.isArray(cause) ? Refusal.of(cause) : undefined;
    this.stop();
    if (CURSOR_ERRORS.has(refusal?.code)) {
      this.dispatchEvent(new Event("gap"));
    } else if (ACCESS_ERRORS.has(refusal?.code) || ACCESS_CLOSE_CODES.has(cause?.code)) {
      this.reason = refusal?.message ?? cause.reason;
      this.#setState("refused", refusal?.code ?? "UNAUTHENTICATED");
    } else {
      // A connection that closes soon after it opened counts as a failure.
      if (this.state === "live" && Date.now() - this.since > MAX_DELAY) this.#failures = 0;
      const delay = Math.min(MIN_DELAY * 2 ** this.#failures, MAX_DELAY);
      this.#failures += 1;
      // Random, so that the pages of a restarted server do not all connect at once.
      const randomDelay = delay * (0.75 + Math.random() / 2);
      this.reason = refusal?.message ?? "";
      this.nextTry = Date.now() + randomDelay;
      this.#timer = setTimeout(() => this.#connect(), randomDelay);
      this.#setState("lost");
    }
  }

  #setState(state, code = "") {
    if (this.state !== state) this.since = Date.now();
    const before = this.state;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { before, code } }));
  }
}
