/* Client of the gateway's GraphQL endpoint. */

import { reviveShown } from "./words.js";

const TIMEOUT = 15_000; // milliseconds

/** A failed request: a sentence, and the error code. */
export class Refusal extends Error {
  constructor(message, code = "") {
    super(message);
    this.code = code;
  }

  /** From the first error of a GraphQL response. */
  static of([{ message, extensions }]) {
    return new Refusal(message, extensions?.code);
  }
}

export const UNREACHABLE = "UNREACHABLE";

export class Api {
  /** Offset of the server's clock in milliseconds; 0 if below the precision of the Date header. */
  ahead = 0;

  constructor(token) {
    this.token = token;
    // Relative, so that the page also works with a proxy that adds a path prefix.
    this.url = new URL("graphql", document.baseURI);
    this.socket = new URL(this.url);
    this.socket.protocol = this.url.protocol.replace("http", "ws");
  }

  get headers() {
    return this.token.value ? { Authorization: `Bearer ${this.token.value}` } : {};
  }

  /** Execute an operation, and return its data. Throws Refusal. */
  async execute(query, variables = {}) {
    let response;
    let result;
    try {
      response = await fetch(this.url, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/graphql-response+json, application/json;q=0.9",
          ...this.headers,
        },
        body: JSON.stringify({ query, variables }),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      result = JSON.parse(await response.text(), reviveShown);
    } catch {
      throw new Refusal("The gateway does not respond.", UNREACHABLE);
    }
    this.#compareClocks(response.headers.get("Date"));
    if (result.errors) throw Refusal.of(result.errors);
    if (!result.data) throw new Refusal(`The gateway responded with status ${response.status}.`);
    return result.data;
  }

  #compareClocks(date) {
    const ahead = Date.parse(date) - Date.now();
    // The header has whole seconds, and the response takes time.
    this.ahead = Math.abs(ahead) > 3000 ? ahead : 0;
  }

  /** The server's time, in milliseconds. */
  get now() {
    return Date.now() + this.ahead;
  }
}
