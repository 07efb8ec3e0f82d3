/* Asking for a copy of a hierarchy, with what it would come to. */

import { byId, element, say } from "./elements.js";
import { DUPLICATE, PREVIEW } from "./operations.js";
import { duration, number, title } from "./words.js";

const FIELDS = {
  name: "duplicate-name",
  description: "duplicate-description",
  includeProducts: "duplicate-products",
};

export class Duplicate {
  #api;
  #announcements;
  #hierarchy;
  #sending = false;
  #key;
  #keyed;
  #asked = 0;

  constructor(api, announcements) {
    this.#api = api;
    this.#announcements = announcements;
    byId("duplicate-close").onclick = () => byId("duplicate-dialog").close();
    byId("duplicate-products").onchange = () => this.#preview();
    byId("duplicate-form").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
  }

  ask(hierarchy) {
    this.#hierarchy = hierarchy;
    this.#keyed = undefined;
    byId("duplicate-form").reset();
    this.#refused([]);
    say(byId("duplicate-title"), `Duplicate ${hierarchy.name}`);
    byId("duplicate-name").placeholder = hierarchy.name;
    byId("duplicate-description").placeholder = hierarchy.description ?? "";
    byId("duplicate-dialog").showModal();
    byId("duplicate-name").focus();
    this.#preview();
  }

  async #preview() {
    const asked = ++this.#asked;
    const includeProducts = byId("duplicate-products").checked;
    try {
      const variables = { id: this.#hierarchy.id, includeProducts };
      const { duplicationPreview } = await this.#api.ask(PREVIEW, variables);
      if (asked === this.#asked) this.#showPreview(duplicationPreview, includeProducts);
    } catch (refusal) {
      if (asked === this.#asked) this.#refused([refusal]);
    }
  }

  #showPreview(preview, includeProducts) {
    if (!preview) {
      byId("preview").replaceChildren();
      this.#refused([{ message: "This hierarchy is gone." }]);
      return;
    }
    const { estimatedSeconds, queuePosition } = preview;
    const facts = {
      Nodes: number(preview.nodeCount),
      "Product associations": includeProducts ? number(preview.productAssociationCount) : "none",
      "Place in the queue": queuePosition === 1 ? "next to start" : number(queuePosition),
      "Should take": estimatedSeconds == null ? "not known yet" : duration(estimatedSeconds),
    };
    byId("preview").replaceChildren(
      ...Object.entries(facts).map(([term, fact]) =>
        element(
          "div",
          {},
          element("dt", { textContent: term }),
          element("dd", { textContent: fact }),
        ),
      ),
    );
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    this.#refused([]);
    const input = {
      hierarchyId: this.#hierarchy.id,
      name: byId("duplicate-name").value || null,
      description: byId("duplicate-description").value || null,
      includeProducts: byId("duplicate-products").checked,
    };
    try {
      const idempotencyKey = this.#keyFor(JSON.stringify(input));
      const { duplicateHierarchy } = await this.#api.ask(DUPLICATE, {
        input: { ...input, idempotencyKey },
      });
      if (duplicateHierarchy.errors.length) this.#refused(duplicateHierarchy.errors);
      else {
        this.#announcements.say(`${title(duplicateHierarchy.job)} is queued`);
        byId("duplicate-dialog").close();
      }
    } catch (refusal) {
      this.#refused([
        { message: `${refusal.message} Sent again, it is still one copy.`, path: [] },
      ]);
    }
    this.#sending = false;
  }

  /** The same key for the same input, as often as it is sent: one job. */
  #keyFor(input) {
    if (this.#keyed !== input) {
      this.#keyed = input;
      // randomUUID is there on secure origins alone.
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      this.#key = `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    }
    return this.#key;
  }

  /** Show each error at its field, or below the form where it is of none. */
  #refused(errors) {
    const left = new Map(errors.map((error) => [error.path?.at(-1), error]));
    let first;
    for (const [name, id] of Object.entries(FIELDS)) {
      const place = byId(`${id}-error`);
      if (!place) continue;
      const error = left.get(name);
      left.delete(name);
      place.hidden = !error;
      say(place, error?.message ?? "");
      byId(id).setAttribute("aria-invalid", String(Boolean(error)));
      if (error) first ??= byId(id);
    }
    const others = [...left.values()].map((error) => error.message).join(" ");
    byId("duplicate-error").hidden = !others;
    say(byId("duplicate-error"), others);
    first?.focus();
  }
}
