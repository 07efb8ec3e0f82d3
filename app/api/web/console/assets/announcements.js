/* Announcements for screen readers, at most once per second. */

import { byId } from "./elements.js";

const INTERVAL = 1000; // milliseconds
const MAX_TEXTS = 3;

export class Announcements {
  #waiting = [];
  #timer;

  announce(text) {
    this.#waiting.push(text);
    this.#timer ??= setTimeout(() => this.#flush(), INTERVAL);
  }

  #flush() {
    const texts = this.#waiting.slice(-MAX_TEXTS);
    const more = this.#waiting.length - texts.length;
    if (more) texts.unshift(`${more} more changes`);
    byId("announcements").textContent = texts.join(". ");
    this.#waiting = [];
    this.#timer = undefined;
  }
}
