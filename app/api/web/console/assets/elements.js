/* The page's elements: made without markup, so that a text is never anything else. */

const SVG = "http://www.w3.org/2000/svg";

/** An element with these properties, or attributes where it has no such property. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Set a text only where it differs: a screen reader or a selection is not disturbed for nothing. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Hide an element without losing the focus that was on it: it goes to `instead`. */
export function hide(node, hidden, instead) {
  const focused = hidden && node === document.activeElement;
  node.hidden = hidden;
  if (focused) instead.focus();
}

/**
 * The rows of a list, each updated in place: `make(item)` gives { element, update(item) }. A row
 * that goes hands its focus to its neighbour, or to `otherwise` where there is none.
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
    const wanted = new Set(items.map((item) => item.id));
    for (const [id, row] of this.#rows) if (!wanted.has(id)) this.#remove(id, row.element);
    let place = this.#list.firstElementChild;
    for (const item of items) {
      let row = this.#rows.get(item.id);
      if (!row) this.#rows.set(item.id, (row = this.#make(item)));
      row.update(item);
      if (row.element === place) place = place.nextElementSibling;
      else this.#put(row.element, place);
    }
  }

  get(id) {
    return this.#rows.get(id);
  }

  [Symbol.iterator]() {
    return this.#rows.values();
  }

  #put(row, place) {
    const focused = row.contains(document.activeElement) ? document.activeElement : undefined;
    if (row.isConnected && this.#list.moveBefore) this.#list.moveBefore(row, place);
    else this.#list.insertBefore(row, place);
    if (focused && focused !== document.activeElement) focused.focus();
  }

  #remove(id, row) {
    this.#rows.delete(id);
    const focused = row.contains(document.activeElement);
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (!focused) return;
    // To the row, not to a button of it: what is pressed twice must not do something else.
    (neighbour ?? this.#otherwise).focus();
  }
}
