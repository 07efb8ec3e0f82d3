/* Formatting of numbers, times and jobs. */

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const number = (value) => NUMBER.format(value);

export const pluralize = (value, singular, plural = `${singular}s`) =>
  `${number(value)} ${value === 1 ? singular : plural}`;

export function duration(seconds) {
  if (seconds < 0.95) return `${Math.max(0, seconds).toFixed(seconds < 0.095 ? 2 : 1)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${number(Math.floor(whole / 3600))} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A duration with whole seconds, for countdowns. */
export const countdown = (seconds) =>
  seconds < 60 ? `${Math.ceil(seconds)} s` : duration(seconds);

export function clock(instant, now = Date.now()) {
  const then = new Date(instant);
  const today = then.toDateString() === new Date(now).toDateString();
  return today ? CLOCK.format(then) : `${DAY.format(then)}, ${CLOCK.format(then)}`;
}

export const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

/** Controls, bidi controls and invisible characters; not the joiners that scripts and emoji need. */
const HIDDEN =
  /(?![\u200c\u200d\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]/gu;

/** Letters that are written from right to left. */
const RIGHT_TO_LEFT =
  /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

export const ISOLATE = "\u2068";
const END_OF_ISOLATE = "\u2069";

/**
 * A text of others for this page: hidden characters are named, and a text from right to left cannot
 * reorder what surrounds it, in elements, attributes and announcements alike.
 */
export function shown(text) {
  const named = text.replace(
    HIDDEN,
    (character) =>
      `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`,
  );
  return RIGHT_TO_LEFT.test(named) ? `${ISOLATE}${named}${END_OF_ISOLATE}` : named;
}

/** Reviver of JSON.parse: every text of the gateway passes here before it can be shown. */
export const reviveShown = (_key, value) => (typeof value === "string" ? shown(value) : value);

export const STATUS = {
  PENDING: "Waiting",
  STARTED: "Running",
  SUCCESS: "Done",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
};

const TYPE = {
  CHILD_PRODUCTS: "Child products",
  PRODUCT_IMPORT: "Product import",
  PRODUCT_EXPORT: "Product export",
  PRICE_IMPORT: "Price import",
};

/** Title of a job. */
export function title({ type, duplication }) {
  if (!duplication) return TYPE[type] ?? type;
  const source = duplication.source?.name ?? "a deleted hierarchy";
  const copy = duplication.result?.name ?? duplication.name;
  return copy && copy !== source ? `${source} → ${copy}` : `Copy of ${source}`;
}
