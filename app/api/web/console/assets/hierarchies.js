/* The hierarchies to choose from, and the one that is shown with its tree. */

import { Rows, byId, element, hide, say } from "./elements.js";
import { HIERARCHIES, HIERARCHY } from "./operations.js";
import { Tree } from "./tree.js";
import { TreeView } from "./treeview.js";
import { clock, counted, number } from "./words.js";

const PAGE = 25;
const MOST = 100; // in one request
const TYPING = 250; // milliseconds

const LANGUAGE = new Intl.DisplayNames("en", { type: "language" });

export class Hierarchies {
  #api;
  #announcements;
  #list;
  #found = [];
  #wanted = PAGE;
  #hidden = false; // whether there are more
  #chosen;
  #hierarchy;
  #tree;
  #view;
  #reading = 0;

  /** `duplicate` asks for a copy of the hierarchy it is given. */
  constructor(api, announcements, duplicate) {
    this.#api = api;
    this.#announcements = announcements;
    this.#list = new Rows(byId("hierarchies"), () => this.#row(), byId("hierarchies-title"));
    this.#view = new TreeView(
      byId("tree"),
      (work) => this.#try(work),
      (row) => say(byId("tree-path"), pathOf(row)),
    );
    let typing;
    byId("hierarchies-filter").oninput = () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#try(() => this.#readOnly(PAGE)), TYPING);
    };
    byId("hierarchies-more").onclick = () => this.#try(() => this.#readOnly(this.#wanted + PAGE));
    byId("duplicate").onclick = () => duplicate(this.#hierarchy);
    byId("expand-all").onclick = () => this.#try(() => this.#tree.openAll());
    byId("collapse-all").onclick = () => this.#tree.closeAll();
    byId("locale").onchange = () => this.#try(() => this.#grow(this.#tree.opened));
  }

  /** Read the list anew, as much of it as is shown. Throws Refusal. */
  async read() {
    const reading = ++this.#reading;
    const found = [];
    let count;
    let after = null;
    do {
      const first = Math.min(this.#wanted - found.length, MOST);
      const variables = { first, after, ...this.#filter };
      const { hierarchies } = await this.#api.ask(HIERARCHIES, variables);
      // It was asked anew meanwhile: another answer is on its way.
      if (reading !== this.#reading) return;
      found.push(...hierarchies.nodes);
      count = hierarchies.totalCount;
      after = hierarchies.pageInfo.hasNextPage ? hierarchies.pageInfo.endCursor : null;
    } while (after !== null && found.length < this.#wanted);
    this.#found = found;
    this.#hidden = after !== null;
    this.#show();
    this.#tellCount(count);
    if (!this.#chosen && this.#found.length) await this.open(this.#found[0].id);
  }

  /** Show a hierarchy and its tree. Throws Refusal. */
  async open(id) {
    this.#chosen = id;
    this.#show();
    const { hierarchy } = await this.#api.ask(HIERARCHY, { id });
    if (this.#chosen !== id) return;
    byId("hierarchy").hidden = !hierarchy;
    if (!hierarchy) {
      this.#chosen = undefined;
      this.#announcements.say("This hierarchy is gone");
      return this.read();
    }
    this.#hierarchy = hierarchy;
    say(byId("hierarchy-name"), hierarchy.name);
    const facts = [counted(hierarchy.nodeCount, "node"), `made ${clock(hierarchy.createdAt)}`];
    if (hierarchy.owner === "ORGANIZATION") facts.push("the organization's");
    if (hierarchy.copiedFrom) facts.push(`a copy of ${hierarchy.copiedFrom.name}`);
    say(byId("hierarchy-facts"), facts.join(" · "));
    say(byId("hierarchy-description"), hierarchy.description ?? "");
    this.#offerLocales(hierarchy);
    await this.#grow();
  }

  /** Show a hierarchy that somebody asked for, and go there. */
  async visit(id) {
    await this.#try(() => this.open(id));
    byId("hierarchy-name").focus();
  }

  get #filter() {
    const text = byId("hierarchies-filter").value.trim();
    return text ? { filter: { name: { like: `*${text}*` } } } : {};
  }

  async #readOnly(wanted) {
    this.#wanted = wanted;
    await this.read();
  }

  #tellCount(count) {
    say(byId("hierarchies-count"), number(count));
    const empty = byId("hierarchies-empty");
    empty.hidden = count > 0;
    say(
      empty,
      byId("hierarchies-filter").value
        ? "No hierarchy has such a name."
        : "There is no hierarchy yet: `jobs-gateway import` brings one in.",
    );
  }

  #show() {
    this.#list.show(this.#found);
    hide(byId("hierarchies-more"), !this.#hidden, byId("hierarchies-title"));
  }

  #row() {
    let id;
    const name = element("span", { className: "name" });
    const nodes = element("span", { className: "facts" });
    const button = element(
      "button",
      { type: "button", onclick: () => this.#try(() => this.open(id)) },
      name,
      nodes,
    );
    const update = (hierarchy) => {
      id = hierarchy.id;
      say(name, hierarchy.name);
      say(nodes, counted(hierarchy.nodeCount, "node"));
      button.ariaCurrent = String(id === this.#chosen);
    };
    return { element: element("li", { tabIndex: -1 }, button), update };
  }

  #offerLocales({ localizations, children }) {
    const some = [...localizations, ...children.nodes.flatMap((node) => node.localizations)];
    const locales = [...new Set(some.map(({ locale }) => locale))].sort();
    const choice = byId("locale");
    const before = choice.value;
    choice.replaceChildren(
      element("option", { value: "", textContent: "Default" }),
      ...locales.map((locale) => element("option", { value: locale, textContent: named(locale) })),
    );
    choice.value = locales.includes(before) ? before : "";
    byId("locale-choice").hidden = locales.length === 0;
  }

  /** Throws Refusal. */
  async #grow(open) {
    this.#tree?.stop();
    const tree = new Tree(this.#api, this.#hierarchy.id, byId("locale").value || null, open);
    this.#tree = tree;
    tree.addEventListener("change", () => this.#tellRows(tree));
    tree.addEventListener("reading", () => this.#tellRows(tree));
    this.#view.show(tree);
    await tree.begin();
  }

  #tellRows(tree) {
    const rows = tree.rows.length
      ? `${counted(tree.rows.length, "row")}${tree.reading ? ", reading on…" : ""}`
      : tree.reading
        ? "Reading…"
        : "Nothing is below the root.";
    say(byId("tree-state"), rows);
    byId("tree").ariaBusy = String(tree.reading);
  }

  async #try(work) {
    try {
      await work();
    } catch (refusal) {
      say(byId("tree-state"), refusal.message);
      this.#announcements.say(refusal.message);
    }
  }
}

function named(locale) {
  try {
    return `${LANGUAGE.of(locale)} (${locale})`;
  } catch {
    return locale; // not every key of a translation is a language tag
  }
}

function pathOf(row) {
  const names = [];
  for (let node = row; node?.name; node = node.parent) names.unshift(node.name);
  return names.join(" › ");
}
