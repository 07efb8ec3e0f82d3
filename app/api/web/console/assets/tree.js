/* A hierarchy's tree as far as it was opened: children are read when they are first wanted. */

import { CHILDREN } from "./operations.js";

const AT_ONCE = 30; // parents in one request: a hundred children each stay below the cost limit

/** Tells `change` whenever `rows` has other rows, and `reading` when a request begins or ends. */
export class Tree extends EventTarget {
  /** What is to be seen, from top to bottom: nodes, and rows that stand for more of them. */
  rows = [];
  reading = false;

  #api;
  #locale;
  #root;
  #stopped = false;
  #open; // ids that are to be opened as soon as they are read

  constructor(api, id, locale = null, open = new Set()) {
    super();
    this.#api = api;
    this.#locale = locale;
    this.#open = open;
    this.#root = { id, level: 0, children: null, more: null, open: true };
  }

  /** The ids of the nodes that are open. */
  get opened() {
    return new Set(this.rows.filter((row) => row.open).map((row) => row.id));
  }

  /** Read the first level, and whatever was to be open. Throws Refusal. */
  async begin() {
    await this.#read([this.#root]);
    await this.#openWhile((node) => this.#open.has(node.id));
  }

  stop() {
    this.#stopped = true;
  }

  /** Throws Refusal. */
  async open(node) {
    if (!node.count || node.open) return;
    node.open = true;
    if (node.children) this.#flatten();
    else await this.#read([node]);
  }

  close(node) {
    if (!node.open) return;
    node.open = false;
    this.#flatten();
  }

  /** The next children of a node that has more. Throws Refusal. */
  async more(parent) {
    await this.#read([parent], parent.more);
  }

  /** Open all there is, level by level. Throws Refusal. */
  async openAll() {
    await this.#openWhile(() => true);
  }

  closeAll() {
    this.#stopOpening();
    for (const row of this.rows) row.open = false;
    this.#flatten();
  }

  #stopOpening = () => {};

  async #openWhile(wanted) {
    let going = true;
    this.#stopOpening();
    this.#stopOpening = () => (going = false);
    let level = this.#root.children ?? [];
    while (level.length && going) {
      const opening = level.filter((node) => node.count && wanted(node));
      const unread = opening.filter((node) => !node.children);
      for (let start = 0; start < unread.length && going && !this.#stopped; start += AT_ONCE) {
        const some = unread.slice(start, start + AT_ONCE);
        for (const node of some) node.open = true;
        await this.#read(some);
      }
      if (!going || this.#stopped) return;
      for (const node of opening) node.open = true;
      level = opening.flatMap((node) => node.children);
    }
    this.#flatten();
  }

  async #read(parents, after = null) {
    this.#tellReading(true);
    try {
      const ids = parents.map((parent) => parent.id);
      const variables = { ids, after, locale: this.#locale };
      const { nodes } = await this.#api.ask(CHILDREN, variables);
      parents.forEach((parent, place) => this.#take(parent, nodes[place]?.children));
    } catch (refusal) {
      for (const parent of parents) if (!parent.children) parent.open = false;
      throw refusal;
    } finally {
      this.#tellReading(false);
      this.#flatten();
    }
  }

  #take(parent, page) {
    // Deleted meanwhile: nothing is below it.
    const { nodes, totalCount, pageInfo } = page ?? { nodes: [], totalCount: 0, pageInfo: {} };
    const before = parent.children ?? [];
    const read = nodes.map(({ id, name, children }, place) => ({
      id,
      name,
      parent,
      level: parent.level + 1,
      place: before.length + place + 1,
      count: children.totalCount,
      children: null,
      more: null,
      open: false,
    }));
    parent.children = [...before, ...read];
    parent.count = totalCount;
    parent.more = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  }

  #flatten() {
    const rows = [];
    const below = (parent) => {
      for (const node of parent.children ?? []) {
        rows.push(node);
        if (node.open) below(node);
      }
      if (parent.more) {
        const left = parent.count - parent.children.length;
        const level = parent.level + 1;
        rows.push({ id: `${parent.id}-more`, parent, level, left, place: parent.count - left + 1 });
      }
    };
    below(this.#root);
    this.rows = rows;
    if (!this.#stopped) this.dispatchEvent(new Event("change"));
  }

  #tellReading(reading) {
    this.reading = reading;
    if (!this.#stopped) this.dispatchEvent(new Event("reading"));
  }
}
