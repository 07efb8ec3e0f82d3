/* The list of hierarchies, and the selected hierarchy with its tree. */

import { Rows, byId, element, hide, setText } from "./elements.js";
import { HIERARCHIES, HIERARCHY } from "./operations.js";
import { Tree } from "./tree.js";
import { TreeView } from "./treeview.js";
import { clock, number, pluralize } from "./words.js";

const PAGE_SIZE = 25;
const MAX_PAGE_SIZE = 100; // of one request
const TYPING_DELAY = 250; // milliseconds

const LANGUAGE = new Intl.DisplayNames("en", { type: "language" });

export class Hierarchies {
  #api;
  #announcements;
  #list;
  #nodes = [];
  #size = PAGE_SIZE;
  #hasMore = false;
  #selected;
  #hierarchy;
  #tree;
  #view;
  #reading = 0;

  /** `duplicate(hierarchy)` opens the dialog to duplicate it. */
  constructor(api, announcements, duplicate) {
    this.#api = api;
    this.#announcements = announcements;
    this.#list = new Rows(byId("hierarchies"), () => this.#row(), byId("hierarchies-title"));
    this.#view = new TreeView(
      byId("tree"),
      (action) => this.#try(action),
      (row) => setText(byId("tree-path"), pathOf(row)),
    );
    let typing;
    byId("hierarchies-filter").oninput = () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#try(() => this.#readFirst(PAGE_SIZE)), TYPING_DELAY);
    };
    byId("hierarchies-more").onclick = () =>
      this.#try(() => this.#readFirst(this.#size + PAGE_SIZE));
    byId("duplicate").onclick = () => duplicate(this.#hierarchy);
    byId("expand-all").onclick = () => this.#try(() => this.#tree.openAll());
    byId("collapse-all").onclick = () => this.#tree.closeAll();
    byId("locale").onchange = () => this.#try(() => this.#loadTree(this.#tree.opened));
  }

  /** Read the shown part of the list again. Throws Refusal. */
  async read() {
    const reading = ++this.#reading;
    const nodes = [];
    let count;
    let after = null;
    do {
      const first = Math.min(this.#size - nodes.length, MAX_PAGE_SIZE);
      const variables = { first, after, ...this.#filter };
      const { hierarchies } = await this.#api.execute(HIERARCHIES, variables);
      // A later request has replaced this one.
      if (reading !== this.#reading) return;
      nodes.push(...hierarchies.nodes);
      count = hierarchies.totalCount;
      after = hierarchies.pageInfo.hasNextPage ? hierarchies.pageInfo.endCursor : null;
    } while (after !== null && nodes.length < this.#size);
    this.#nodes = nodes;
    this.#hasMore = after !== null;
    this.#show();
    this.#showCount(count);
    if (!this.#selected && this.#nodes.length) await this.open(this.#nodes[0].id);
  }

  /** Show a hierarchy and its tree. Throws Refusal. */
  async open(id) {
    this.#selected = id;
    this.#show();
    const { hierarchy } = await this.#api.execute(HIERARCHY, { id });
    if (this.#selected !== id) return;
    byId("hierarchy").hidden = !hierarchy;
    if (!hierarchy) {
      this.#selected = undefined;
      this.#announcements.announce("This hierarchy no longer exists");
      return this.read();
    }
    this.#hierarchy = hierarchy;
    setText(byId("hierarchy-name"), hierarchy.name);
    const facts = [pluralize(hierarchy.nodeCount, "node"), `created ${clock(hierarchy.createdAt)}`];
    if (hierarchy.owner === "ORGANIZATION") facts.push("the organization's");
    if (hierarchy.copiedFrom) facts.push(`a copy of ${hierarchy.copiedFrom.name}`);
    setText(byId("hierarchy-facts"), facts.join(" · "));
    setText(byId("hierarchy-description"), hierarchy.description ?? "");
    this.#offerLocales(hierarchy);
    await this.#loadTree();
  }

  /** Show a hierarchy, and move the focus to it. */
  async visit(id) {
    await this.#try(() => this.open(id));
    byId("hierarchy-name").focus();
  }

  get #filter() {
    const text = byId("hierarchies-filter").value.trim();
    return text ? { filter: { name: { like: `*${text}*` } } } : {};
  }

  async #readFirst(size) {
    this.#size = size;
    await this.read();
  }

  #showCount(count) {
    setText(byId("hierarchies-count"), number(count));
    const empty = byId("hierarchies-empty");
    empty.hidden = count > 0;
    setText(
      empty,
      byId("hierarchies-filter").value
        ? "No hierarchy matches the filter."
        : "No hierarchies yet: `jobs-gateway import` adds one.",
    );
  }

  #show() {
    this.#list.show(this.#nodes);
    hide(byId("hierarchies-more"), !this.#hasMore, byId("hierarchies-title"));
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
      setText(name, hierarchy.name);
      setText(nodes, pluralize(hierarchy.nodeCount, "node"));
      button.ariaCurrent = String(id === this.#selected);
    };
    return { element: element("li", { tabIndex: -1 }, button), update };
  }

  #offerLocales({ localizations, children }) {
    const all = [...localizations, ...children.nodes.flatMap((node) => node.localizations)];
    const locales = [...new Set(all.map(({ locale }) => locale))].sort();
    const choice = byId("locale");
    const before = choice.value;
    choice.replaceChildren(
      element("option", { value: "", textContent: "Default" }),
      ...locales.map((locale) =>
        element("option", { value: locale, textContent: localeName(locale) }),
      ),
    );
    choice.value = locales.includes(before) ? before : "";
    byId("locale-choice").hidden = locales.length === 0;
  }

  /** Throws Refusal. */
  async #loadTree(open) {
    this.#tree?.stop();
    const tree = new Tree(this.#api, this.#hierarchy.id, byId("locale").value || null, open);
    this.#tree = tree;
    tree.addEventListener("change", () => this.#showTreeState(tree));
    tree.addEventListener("reading", () => this.#showTreeState(tree));
    this.#view.show(tree);
    await tree.begin();
  }

  #showTreeState(tree) {
    const rows = tree.rows.length
      ? `${pluralize(tree.rows.length, "row")}${tree.reading ? ", loading more…" : ""}`
      : tree.reading
        ? "Loading…"
        : "The hierarchy has no nodes.";
    setText(byId("tree-state"), rows);
    byId("tree").ariaBusy = String(tree.reading);
  }

  async #try(action) {
    try {
      await action();
    } catch (refusal) {
      setText(byId("tree-state"), refusal.message);
      this.#announcements.announce(refusal.message);
    }
  }
}

function localeName(locale) {
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
