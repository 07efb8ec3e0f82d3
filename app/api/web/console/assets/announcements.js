/* What a screen reader is told, politely, and never more than once a second. */

import { byId } from "./elements.js";

const PAUSE = 1000; // milliseconds
const MOST = 3;

export class Announcements {
  #waiting = [];
  #timer;

  say(text) {
    this.#waiting.push(text);
    this.#timer ??= setTimeout(() => this.#tell(), PAUSE);
  }

  #tell() {
    const said = this.#waiting.slice(-MOST);
    const more = this.#waiting.length - said.length;
    byId("announcements").textContent = (more ? [`${more} more changes`, ...said] : said).join(". ");
    this.#waiting = [];
    this.#timer = undefined;
  }
}
