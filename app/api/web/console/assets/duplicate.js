/* Dialog to duplicate a hierarchy, with a preview. */

import { byId, element, setText } from "./elements.js";
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
  #keyedInput;
  #previewRequest = 0;

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

  open(hierarchy) {
    this.#hierarchy = hierarchy;
    this.#keyedInput = undefined;
    byId("duplicate-form").reset();
    this.#showErrors([]);
    setText(byId("duplicate-title"), `Duplicate ${hierarchy.name}`);
    byId("duplicate-name").placeholder = hierarchy.name;
    byId("duplicate-description").placeholder = hierarchy.description ?? "";
    byId("duplicate-dialog").showModal();
    byId("duplicate-name").focus();
    this.#preview();
  }

  async #preview() {
    const request = ++this.#previewRequest;
    const includeProducts = byId("duplicate-products").checked;
    try {
      const variables = { id: this.#hierarchy.id, includeProducts };
      const { duplicationPreview } = await this.#api.execute(PREVIEW, variables);
      if (request === this.#previewRequest) this.#showPreview(duplicationPreview, includeProducts);
    } catch (refusal) {
      if (request === this.#previewRequest) this.#showErrors([refusal]);
    }
  }

  #showPreview(preview, includeProducts) {
    if (!preview) {
      byId("preview").replaceChildren();
      this.#showErrors([{ message: "This hierarchy no longer exists." }]);
      return;
    }
    const { estimatedSeconds, queuePosition } = preview;
    const rows = {
      Nodes: number(preview.nodeCount),
      "Product associations": includeProducts ? number(preview.productAssociationCount) : "none",
      "Queue position": queuePosition === 1 ? "next to start" : number(queuePosition),
      "Estimated time": estimatedSeconds == null ? "unknown" : duration(estimatedSeconds),
    };
    byId("preview").replaceChildren(
      ...Object.entries(rows).map(([term, value]) =>
        element(
          "div",
          {},
          element("dt", { textContent: term }),
          element("dd", { textContent: value }),
        ),
      ),
    );
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    this.#showErrors([]);
    const input = {
      hierarchyId: this.#hierarchy.id,
      name: byId("duplicate-name").value || null,
      description: byId("duplicate-description").value || null,
      includeProducts: byId("duplicate-products").checked,
    };
    try {
      const idempotencyKey = this.#keyFor(JSON.stringify(input));
      const { duplicateHierarchy } = await this.#api.execute(DUPLICATE, {
        input: { ...input, idempotencyKey },
      });
      if (duplicateHierarchy.errors.length) this.#showErrors(duplicateHierarchy.errors);
      else {
        this.#announcements.announce(`${title(duplicateHierarchy.job)} is queued`);
        byId("duplicate-dialog").close();
      }
    } catch (refusal) {
      this.#showErrors([
        { message: `${refusal.message} Sending it again does not create a second copy.`, path: [] },
      ]);
    }
    this.#sending = false;
  }

  /** One idempotency key per input: a repeated request creates no second job. */
  #keyFor(input) {
    if (this.#keyedInput !== input) {
      this.#keyedInput = input;
      // randomUUID exists on secure origins only.
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      this.#key = `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    }
    return this.#key;
  }

  /** Show each error at its field, and errors of no field below the form. */
  #showErrors(errors) {
    const left = new Map(errors.map((error) => [error.path?.at(-1), error]));
    let first;
    for (const [name, id] of Object.entries(FIELDS)) {
      const output = byId(`${id}-error`);
      if (!output) continue;
      const error = left.get(name);
      left.delete(name);
      output.hidden = !error;
      setText(output, error?.message ?? "");
      byId(id).setAttribute("aria-invalid", String(Boolean(error)));
      if (error) first ??= byId(id);
    }
    const others = [...left.values()].map((error) => error.message).join(" ");
    byId("duplicate-error").hidden = !others;
    setText(byId("duplicate-error"), others);
    first?.focus();
  }
}
