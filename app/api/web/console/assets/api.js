/* The gateway's GraphQL endpoint, as this page asks it. */

const PATIENCE = 15_000; // milliseconds

/** What the gateway, or the way to it, has refused: one sentence, and the code of the error. */
export class Refusal extends Error {
  constructor(message, code = "") {
    super(message);
    this.code = code;
  }

  /** Of the errors of a GraphQL answer, the first one. */
  static of([{ message, extensions }]) {
    return new Refusal(message, extensions?.code);
  }
}

export const UNREACHABLE = "UNREACHABLE";

export class Api {
  /** How far the server's clock is ahead, in milliseconds; told only where it can be seen. */
  ahead = 0;

  constructor(token) {
    this.token = token;
    // Relative, so that the page also works behind a proxy that adds a prefix.
    this.url = new URL("graphql", document.baseURI);
    this.socket = new URL(this.url);
    this.socket.protocol = this.url.protocol.replace("http", "ws");
  }

  get headers() {
    return this.token.value ? { Authorization: `Bearer ${this.token.value}` } : {};
  }

  /** The data of an operation. Throws Refusal. */
  async ask(query, variables = {}) {
    let response;
    let answer;
    try {
      response = await fetch(this.url, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/graphql-response+json, application/json;q=0.9",
          ...this.headers,
        },
        body: JSON.stringify({ query, variables }),
        signal: AbortSignal.timeout(PATIENCE),
      });
      answer = await response.json();
    } catch {
      throw new Refusal("The gateway does not answer.", UNREACHABLE);
    }
    this.#compareClocks(response.headers.get("Date"));
    if (answer.errors) throw Refusal.of(answer.errors);
    if (!answer.data) throw new Refusal(`The gateway answered ${response.status}.`);
    return answer.data;
  }

  #compareClocks(date) {
    const ahead = Date.parse(date) - Date.now();
    // The header has whole seconds, and the answer took its time.
    this.ahead = Math.abs(ahead) > 3000 ? ahead : 0;
  }

  /** The server's time in milliseconds. */
  get now() {
    return Date.now() + this.ahead;
  }
}
