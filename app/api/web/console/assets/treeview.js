/*
 * The view of a tree. Only visible rows are in the document, so that 10,000 rows scroll like 10.
 * The focus stays on the tree, which names its active row (ARIA tree pattern with
 * aria-activedescendant): a row that scrolls out of view does not lose the focus.
 */

import { Rows, element, setText } from "./elements.js";
import { ISOLATE, number } from "./words.js";

const OVERSCAN = 12; // rows above and below the visible ones
const TYPING_PAUSE = 600; // milliseconds, ends a typed word

export class TreeView {
  #box;
  #space;
  #height;
  #list;
  #tree;
  #active; // a row
  #run;
  #moved;
  #typed = "";
  #typedAt = 0;
  #frame;

  /** `run(action)` runs an action that may be refused; `moved(row)` gets the active row. */
  constructor(box, run, moved) {
    this.#box = box;
    this.#run = run;
    this.#moved = moved;
    this.#space = element("div", { role: "presentation", className: "space" });
    box.replaceChildren(this.#space);
    this.#height = parseFloat(getComputedStyle(box).getPropertyValue("--row"));
    this.#list = new Rows(this.#space, () => this.#row(), box);
    box.addEventListener("scroll", () => this.#scheduleDraw(), { passive: true });
    box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#scheduleDraw()).observe(box);
  }

  show(tree) {
    this.#tree = tree;
    this.#active = undefined;
    this.#box.scrollTop = 0;
    tree.addEventListener("change", () => this.#tree === tree && this.#draw());
    this.#draw();
  }

  get #rows() {
    return this.#tree?.rows ?? [];
  }

  #scheduleDraw() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    const rows = this.#rows;
    const active = this.#activeIndex();
    this.#active = rows[active];
    this.#space.style.height = `${rows.length * this.#height}px`;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / this.#height) - OVERSCAN);
    const count = Math.ceil(this.#box.clientHeight / this.#height) + 2 * OVERSCAN;
    const indexes = rows.slice(first, first + count).map((_, index) => first + index);
    // The active row must be in the document.
    if (active < first) indexes.unshift(active);
    if (active >= first + count) indexes.push(active);
    this.#list.show(indexes.map((index) => ({ id: rows[index].id, row: rows[index], index })));
    if (this.#active) this.#box.setAttribute("aria-activedescendant", domId(this.#active));
    else this.#box.removeAttribute("aria-activedescendant");
    this.#moved(this.#active);
  }

  /** Index of the active row, or of its nearest ancestor if it was removed. */
  #activeIndex() {
    let row = this.#active;
    let index = -1;
    while (row && (index = this.#rows.findIndex(({ id }) => id === row.id)) < 0) row = row.parent;
    return Math.max(0, index);
  }

  #row() {
    const name = element("span", { className: "name" });
    const below = element("span", { className: "below", ariaHidden: "true" });
    const twisty = element("span", { className: "twisty", ariaHidden: "true" });
    const node = element("div", { role: "treeitem", className: "node" }, twisty, name, below);
    let shown;
    node.onclick = () => {
      this.#active = shown.row;
      this.#toggle(shown.row);
      this.#draw();
    };
    const update = (item) => {
      shown = item;
      const { row, index } = item;
      node.id = domId(row);
      node.style.transform = `translateY(${index * this.#height}px)`;
      node.style.setProperty("--level", row.level);
      node.classList.toggle("active", row === this.#active);
      node.classList.toggle("more", "left" in row);
      node.ariaLevel = row.level;
      node.ariaSetSize = row.parent.count;
      node.ariaPosInSet = row.position;
      if (row.count) node.ariaExpanded = String(row.open);
      else node.removeAttribute("aria-expanded");
      setText(name, "left" in row ? `Show more (${number(row.left)} left)` : row.name);
      setText(below, row.count ? number(row.count) : "");
    };
    return { element: node, update };
  }

  #toggle(row) {
    if ("left" in row) this.#run(() => this.#more(row));
    else if (row.open) this.#tree.close(row);
    else this.#run(() => this.#tree.open(row));
  }

  async #more(row) {
    const known = row.parent.children.length;
    await this.#tree.more(row.parent);
    if (this.#active?.id !== row.id && this.#active !== row.parent) return;
    this.#active = row.parent.children[known];
    this.#draw();
  }

  #moveTo(to) {
    const index = Math.max(0, Math.min(to, this.#rows.length - 1));
    this.#active = this.#rows[index];
    const top = index * this.#height;
    const bottom = top + this.#height - this.#box.clientHeight;
    if (this.#box.scrollTop > top) this.#box.scrollTop = top;
    else if (this.#box.scrollTop < bottom) this.#box.scrollTop = bottom;
    this.#draw();
  }

  #key(event) {
    const rows = this.#rows;
    const row = this.#active;
    const at = this.#activeIndex();
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#height) - 1);
    switch (event.key) {
      case "ArrowDown":
        this.#moveTo(at + 1);
        break;
      case "ArrowUp":
        this.#moveTo(at - 1);
        break;
      case "PageDown":
        this.#moveTo(at + page);
        break;
      case "PageUp":
        this.#moveTo(at - page);
        break;
      case "Home":
        this.#moveTo(0);
        break;
      case "End":
        this.#moveTo(rows.length - 1);
        break;
      case "ArrowRight":
        if (row.open) this.#moveTo(at + 1);
        else if (row.count) this.#toggle(row);
        break;
      case "ArrowLeft":
        if (row.open) this.#toggle(row);
        else if (row.level > 1) this.#moveTo(rows.indexOf(row.parent));
        break;
      case "Enter":
      case " ":
        this.#toggle(row);
        break;
      default:
        if (event.key.length !== 1) return;
        this.#type(event.key);
        event.preventDefault();
        return;
    }
    this.#typed = "";
    event.preventDefault();
  }

  /** Go to the next row whose name begins with the typed text. */
  #type(letter) {
    const now = performance.now();
    this.#typed = (now - this.#typedAt < TYPING_PAUSE ? this.#typed : "") + letter.toLowerCase();
    this.#typedAt = now;
    const rows = this.#rows;
    const from = this.#activeIndex() + (this.#typed.length === 1 ? 1 : 0);
    for (let step = 0; step < rows.length; step++) {
      const index = (from + step) % rows.length;
      const name = rows[index].name?.replace(ISOLATE, "").toLowerCase();
      if (name?.startsWith(this.#typed)) return this.#moveTo(index);
    }
  }
}

const domId = (row) => `node-${row.id}`;
