/* DOM helpers that create elements without markup, so that no text is parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** Create an element; `properties` it does not have become attributes. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set a text if it differs, so that screen readers and selections are not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Hide or show an element. If it has the focus when hidden, `instead` gets it. */
export function hide(node, hidden, instead) {
  const focused = hidden && node === document.activeElement;
  node.hidden = hidden;
  if (focused) instead.focus();
}

/**
 * The rows of a list, updated in place: `make(item)` returns { element, update(item) }. A removed
 * row passes its focus to a neighbour, or to `otherwise` if it was the last.
 */
export class Rows {
  #list;
  #make;
  #otherwise;
  #rows = new Map();

  constructor(list, make, otherwise) {
    this.#list = list;
    this.#make = make;
    this.#otherwise = otherwise;
  }

  show(items) {
    const ids = new Set(items.map((item) => item.id));
    for (const [id, row] of this.#rows) if (!ids.has(id)) this.#remove(id, row.element);
    let next = this.#list.firstElementChild;
    for (const item of items) {
      let row = this.#rows.get(item.id);
      if (!row) this.#rows.set(item.id, (row = this.#make(item)));
      row.update(item);
      if (row.element === next) next = next.nextElementSibling;
      else this.#insert(row.element, next);
    }
  }

  get(id) {
    return this.#rows.get(id);
  }

  [Symbol.iterator]() {
    return this.#rows.values();
  }

  #insert(row, next) {
    const focused = row.contains(document.activeElement) ? document.activeElement : undefined;
    if (row.isConnected && this.#list.moveBefore) this.#list.moveBefore(row, next);
    else this.#list.insertBefore(row, next);
    if (focused && focused !== document.activeElement) focused.focus();
  }

  #remove(id, row) {
    this.#rows.delete(id);
    const focused = row.contains(document.activeElement);
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (!focused) return;
    // To the row, not to its button: a second key press must not trigger another action.
    (neighbour ?? this.#otherwise).focus();
  }
}
