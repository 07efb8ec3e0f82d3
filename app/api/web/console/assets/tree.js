/* The loaded part of a hierarchy's tree; children are read when their parent is first opened. */

import { CHILDREN } from "./operations.js";

const MAX_PARENTS = 30; // with 100 children each they stay below the cost limit

/** Dispatches `change` when `rows` change, and `reading` when a request begins or ends. */
export class Tree extends EventTarget {
  /** Rows from top to bottom: nodes, and placeholders for unread ones. */
  rows = [];
  reading = false;

  #api;
  #locale;
  #root;
  #stopped = false;
  #open; // ids of nodes to open as soon as they are read

  constructor(api, id, locale = null, open = new Set()) {
    super();
    this.#api = api;
    this.#locale = locale;
    this.#open = open;
    this.#root = { id, level: 0, children: null, more: null, open: true };
  }

  /** Ids of the open nodes. */
  get opened() {
    return new Set(this.rows.filter((row) => row.open).map((row) => row.id));
  }

  /** Read the first level and the nodes to open. Throws Refusal. */
  async begin() {
    await this.#read([this.#root]);
    await this.#openMatching((node) => this.#open.has(node.id));
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

  /** Read the next children of a node. Throws Refusal. */
  async more(parent) {
    await this.#read([parent], parent.more);
  }

  /** Open all nodes, level by level. Throws Refusal. */
  async openAll() {
    await this.#openMatching(() => true);
  }

  closeAll() {
    this.#stopOpening();
    for (const row of this.rows) row.open = false;
    this.#flatten();
  }

  #stopOpening = () => {};

  async #openMatching(matches) {
    let going = true;
    this.#stopOpening();
    this.#stopOpening = () => (going = false);
    let level = this.#root.children ?? [];
    while (level.length && going) {
      const opening = level.filter((node) => node.count && matches(node));
      const unread = opening.filter((node) => !node.children);
      for (let start = 0; start < unread.length && going && !this.#stopped; start += MAX_PARENTS) {
        const batch = unread.slice(start, start + MAX_PARENTS);
        for (const node of batch) node.open = true;
        await this.#read(batch);
      }
      if (!going || this.#stopped) return;
      for (const node of opening) node.open = true;
      level = opening.flatMap((node) => node.children);
    }
    this.#flatten();
  }

  async #read(parents, after = null) {
    this.#setReading(true);
    try {
      const ids = parents.map((parent) => parent.id);
      const variables = { ids, after, locale: this.#locale };
      const { nodes } = await this.#api.execute(CHILDREN, variables);
      parents.forEach((parent, index) => this.#addChildren(parent, nodes[index]?.children));
    } catch (refusal) {
      for (const parent of parents) if (!parent.children) parent.open = false;
      throw refusal;
    } finally {
      this.#setReading(false);
      this.#flatten();
    }
  }

  #addChildren(parent, page) {
    // A node deleted in the meantime has no children.
    const { nodes, totalCount, pageInfo } = page ?? { nodes: [], totalCount: 0, pageInfo: {} };
    const before = parent.children ?? [];
    const read = nodes.map(({ id, name, children }, index) => ({
      id,
      name,
      parent,
      level: parent.level + 1,
      position: before.length + index + 1,
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
        rows.push({ id: `${parent.id}-more`, parent, level, left, position: parent.count - left + 1 });
      }
    };
    below(this.#root);
    this.rows = rows;
    if (!this.#stopped) this.dispatchEvent(new Event("change"));
  }

  #setReading(reading) {
    this.reading = reading;
    if (!this.#stopped) this.dispatchEvent(new Event("reading"));
  }
}
