/*
 * The tree as it is seen: only the rows in sight are in the document, so that ten thousand scroll
 * as ten do. The focus stays on the tree, which names its active row (the ARIA tree pattern with
 * aria-activedescendant): a row that scrolls out of sight takes no focus with it.
 */

import { Rows, element, say } from "./elements.js";
import { number } from "./words.js";

const AROUND = 12; // rows above and below those in sight
const TYPED = 600; // milliseconds between the letters of one word

export class TreeView {
  #box;
  #space;
  #height;
  #list;
  #tree;
  #active; // a row
  #act;
  #moved;
  #typed = "";
  #typedAt = 0;
  #frame;

  /** `act(work)` runs what may be refused; `moved(row)` hears which row is active. */
  constructor(box, act, moved) {
    this.#box = box;
    this.#act = act;
    this.#moved = moved;
    this.#space = element("div", { role: "presentation", className: "space" });
    box.replaceChildren(this.#space);
    this.#height = parseFloat(getComputedStyle(box).getPropertyValue("--row"));
    this.#list = new Rows(this.#space, () => this.#row(), box);
    box.addEventListener("scroll", () => this.#soon(), { passive: true });
    box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#soon()).observe(box);
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

  #soon() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    const rows = this.#rows;
    const active = this.#place();
    this.#active = rows[active];
    this.#space.style.height = `${rows.length * this.#height}px`;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / this.#height) - AROUND);
    const sight = Math.ceil(this.#box.clientHeight / this.#height) + 2 * AROUND;
    const places = rows.slice(first, first + sight).map((_, place) => first + place);
    // What the tree says to be active has to be there.
    if (active < first) places.unshift(active);
    if (active >= first + sight) places.push(active);
    this.#list.show(places.map((place) => ({ id: rows[place].id, row: rows[place], place })));
    if (this.#active) this.#box.setAttribute("aria-activedescendant", domId(this.#active));
    else this.#box.removeAttribute("aria-activedescendant");
    this.#moved(this.#active);
  }

  /** Where the active row is; where it is no more, the nearest above it. */
  #place() {
    let row = this.#active;
    let place = -1;
    while (row && (place = this.#rows.findIndex(({ id }) => id === row.id)) < 0) row = row.parent;
    return Math.max(0, place);
  }

  #row() {
    const name = element("span", { className: "name" });
    const below = element("span", { className: "below", ariaHidden: "true" });
    const twisty = element("span", { className: "twisty", ariaHidden: "true" });
    const made = element("div", { role: "treeitem", className: "node" }, twisty, name, below);
    let shown;
    made.onclick = () => {
      this.#active = shown.row;
      this.#toggle(shown.row);
      this.#draw();
    };
    const update = (item) => {
      shown = item;
      const { row, place } = item;
      made.id = domId(row);
      made.style.transform = `translateY(${place * this.#height}px)`;
      made.style.setProperty("--level", row.level);
      made.classList.toggle("active", row === this.#active);
      made.classList.toggle("more", "left" in row);
      made.ariaLevel = row.level;
      made.ariaSetSize = row.parent.count;
      made.ariaPosInSet = row.place;
      if (row.count) made.ariaExpanded = String(row.open);
      else made.removeAttribute("aria-expanded");
      say(name, "left" in row ? `Show more (${number(row.left)} left)` : row.name);
      say(below, row.count ? number(row.count) : "");
    };
    return { element: made, update };
  }

  #toggle(row) {
    if ("left" in row) this.#act(() => this.#more(row));
    else if (row.open) this.#tree.close(row);
    else this.#act(() => this.#tree.open(row));
  }

  async #more(row) {
    const known = row.parent.children.length;
    await this.#tree.more(row.parent);
    if (this.#active?.id !== row.id && this.#active !== row.parent) return;
    this.#active = row.parent.children[known];
    this.#draw();
  }

  #go(to) {
    const place = Math.max(0, Math.min(to, this.#rows.length - 1));
    this.#active = this.#rows[place];
    const top = place * this.#height;
    const bottom = top + this.#height - this.#box.clientHeight;
    if (this.#box.scrollTop > top) this.#box.scrollTop = top;
    else if (this.#box.scrollTop < bottom) this.#box.scrollTop = bottom;
    this.#draw();
  }

  #key(event) {
    const rows = this.#rows;
    const row = this.#active;
    const at = this.#place();
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#height) - 1);
    switch (event.key) {
      case "ArrowDown":
        this.#go(at + 1);
        break;
      case "ArrowUp":
        this.#go(at - 1);
        break;
      case "PageDown":
        this.#go(at + page);
        break;
      case "PageUp":
        this.#go(at - page);
        break;
      case "Home":
        this.#go(0);
        break;
      case "End":
        this.#go(rows.length - 1);
        break;
      case "ArrowRight":
        if (row.open) this.#go(at + 1);
        else if (row.count) this.#toggle(row);
        break;
      case "ArrowLeft":
        if (row.open) this.#toggle(row);
        else if (row.level > 1) this.#go(rows.indexOf(row.parent));
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

  /** Go to the next row that begins with what is typed. */
  #type(letter) {
    const now = performance.now();
    this.#typed = (now - this.#typedAt < TYPED ? this.#typed : "") + letter.toLowerCase();
    this.#typedAt = now;
    const rows = this.#rows;
    const from = this.#place() + (this.#typed.length === 1 ? 1 : 0);
    for (let step = 0; step < rows.length; step++) {
      const place = (from + step) % rows.length;
      if (rows[place].name?.toLowerCase().startsWith(this.#typed)) return this.#go(place);
    }
  }
}

const domId = (row) => `node-${row.id}`;
