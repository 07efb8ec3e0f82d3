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
