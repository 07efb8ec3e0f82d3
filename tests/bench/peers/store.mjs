// Reads and writes of the gateway's SQLite file for the peers on Node, with better-sqlite3.
import { randomUUID } from "node:crypto";
import Database from "better-sqlite3";

const STORE = "default";
const ORGANIZATION = "*organization";
const UNSET = -(2 ** 31) - 1;

/** Returns the translation in a locale, ignoring case, or in its nearest wider tag. */
function translation(locales, locale) {
  if (!locale) return undefined;
  if (locale in locales) return locales[locale];
  const byTag = new Map(Object.entries(locales).map(([tag, said]) => [tag.toLowerCase(), said]));
  for (let tag = locale.toLowerCase(); tag; tag = tag.slice(0, Math.max(0, tag.lastIndexOf("-")))) {
    if (byTag.has(tag)) return byTag.get(tag);
  }
  return undefined;
}

const dashed = (hex) =>
  `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
const undashed = (id) => id.replaceAll("-", "").toLowerCase();
const instant = (stored) => stored && `${stored.slice(0, 10)}T${stored.slice(11, 23)}Z`;
const stored = (date) => `${date.toISOString().slice(0, -1).replace("T", " ")}000`;
const member = (value) => value.toUpperCase().replaceAll("-", "_");

/** The fields that hierarchies and nodes share, computed on access. */
class TreeItem {
  #locales;

  constructor(hierarchyPk, hierarchyId, number, name, slug, description, locales) {
    this.hierarchyPk = hierarchyPk;
    this.hierarchyId = hierarchyId;
    this.number = number;
    this.default = { name, description };
    this.slug = slug;
    this.#locales = locales;
  }
  get locales() {
    if (typeof this.#locales === "string") this.#locales = JSON.parse(this.#locales);
    return this.#locales;
  }
  name({ locale }) {
    return (locale && translation(this.locales, locale)?.name) ?? this.default.name;
  }
  description({ locale }) {
    return (locale && translation(this.locales, locale)?.description) ?? this.default.description;
  }
}

export class Hierarchy extends TreeItem {
  constructor([pk, id, owner, name, slug, description, locales, nodeCount, createdAt, updatedAt]) {
    super(pk, id, 0, name, slug, description, locales);
    this.stored = { owner, createdAt, updatedAt };
    this.nodeCount = nodeCount;
  }
  get id() {
    return dashed(this.hierarchyId);
  }
  get owner() {
    return member(this.stored.owner);
  }
  get createdAt() {
    return instant(this.stored.createdAt);
  }
  get updatedAt() {
    return instant(this.stored.updatedAt);
  }
  get localizations() {
    return Object.keys(this.locales)
      .sort()
      .map((locale) => ({ locale, ...this.locales[locale] }));
  }
}

export class HierarchyNode extends TreeItem {
  constructor({ hierarchyPk, hierarchyId }, [number, name, slug, description, locales, sortOrder]) {
    super(hierarchyPk, hierarchyId, number, name, slug, description, locales);
    this.sortOrder = sortOrder === UNSET ? null : sortOrder;
  }
  get id() {
    return dashed(this.hierarchyId.slice(0, 24) + this.number.toString(16).padStart(8, "0"));
  }
}

export class Job {
  constructor(row) {
    this.row = row;
  }
  get id() {
    return dashed(this.row.id);
  }
  get type() {
    return member(this.row.type);
  }
  get status() {
    return member(this.row.status);
  }
  get createdAt() {
    return instant(this.row.created_at);
  }
  get startedAt() {
    return instant(this.row.started_at);
  }
  get completedAt() {
    return instant(this.row.completed_at);
  }
  get updatedAt() {
    return instant(this.row.updated_at);
  }
  get version() {
    return this.row.version;
  }
  get canCancel() {
    return this.row.status === "pending";
  }
  get progress() {
    const { started_at: startedAt, completed_items: completed, total_items: total } = this.row;
    if (startedAt === null) return null;
    const ratio = total === null ? null : total ? Math.min(1, completed / total) : 1;
    return { completed, total, ratio };
  }
  get duplication() {
    if (this.row.type !== "hierarchy-duplicate") return null;
    const { source_id: sourceId, name, include_products: includeProducts } = JSON.parse(this.row.args);
    return { sourceId, name, includeProducts };
  }
}

const HIERARCHY = `pk, id, owner, name, slug, description, locales, node_count, created_at, updated_at`;

/** Opens a database file and prepares every statement. */
export function open(path) {
  const database = new Database(path);
  for (const pragma of ["journal_mode = WAL", "synchronous = NORMAL", "cache_size = -16384"]) {
    database.pragma(pragma);
  }
  // better-sqlite3 creates arrays much faster than objects.
  const hierarchies = database
    .prepare(
      `SELECT ${HIERARCHY} FROM hierarchy WHERE store = ? AND +state = 'ready'
       ORDER BY created_at DESC, id DESC LIMIT ?`,
    )
    .raw();
  const hierarchy = database
    .prepare(
      `SELECT ${HIERARCHY} FROM hierarchy
       WHERE id = ? AND store IN ('${STORE}', '${ORGANIZATION}') AND state = 'ready'`,
    )
    .raw();
  const children = database
    .prepare(
      `SELECT node_no, name, slug, description, locales, sort_order FROM node
       WHERE hierarchy_pk = ? AND parent_no = ?
       ORDER BY sort_order DESC, touched DESC, node_no DESC LIMIT ?`,
    )
    .raw();
  const job = database.prepare(`SELECT * FROM job WHERE id = :id AND store = '${STORE}'`);
  const position = database
    .prepare(
      `SELECT count(*) FROM job
       WHERE store = '${STORE}' AND status = 'pending' AND turn <= :turn`,
    )
    .pluck();

  const lane = database.prepare(`SELECT * FROM lane WHERE store = '${STORE}'`);
  const addLane = database.prepare(
    `INSERT INTO lane (store, epoch, job_seq, event_seq, pending, pending_items, pace_seconds,
       pace_items) VALUES ('${STORE}', 0, 0, 0, 0, 0, 0, 0)`,
  );
  const running = database.prepare(
    `SELECT * FROM job WHERE store = '${STORE}' AND status = 'started'`,
  );
  const addJob = database.prepare(
    `INSERT INTO job (id, store, job_seq, turn, type, status, version, created_at, updated_at,
       request_id, args, subject_id, items, completed_items, epoch, attempts)
     VALUES (:id, '${STORE}', :seq, :seq, 'hierarchy-duplicate', 'pending', 1, :at, :at,
       :requestId, :args, :subjectId, :items, 0, 0, 0)`,
  );
  const addEvent = database.prepare(
    `INSERT INTO job_event (store, seq, job_pk, type, at, snapshot)
     VALUES ('${STORE}', :seq, :pk, 'created', :at, :snapshot)`,
  );
  const advanceLane = database.prepare(
    `UPDATE lane SET job_seq = :jobSeq, event_seq = :eventSeq, pending = :pending,
       pending_items = :items, last_created_at = :at
     WHERE store = '${STORE}'`,
  );

  /** Returns the forecast start of a new job, or null if unknown. */
  function startAt(lane, at) {
    if (lane.paused_at !== null || running.get()) return null;
    if (!lane.pending) return at;
    if (!lane.pace_items) return null;
    const seconds = (lane.pace_seconds / lane.pace_items) * lane.pending_items;
    return new Date(at.getTime() + seconds * 1000);
  }

  const enqueue = database.transaction((id) => {
    let queue = lane.get();
    if (!queue) {
      addLane.run();
      queue = lane.get();
    }
    const row = hierarchy.get(id);
    if (!row) return null;
    const source = new Hierarchy(row);
    const last = queue.last_created_at && new Date(instant(queue.last_created_at));
    const at = new Date(Math.max(Date.now(), last ?? 0));
    const args = { source_id: source.id, name: null, description: null, include_products: false };
    const created = {
      id: undashed(randomUUID()),
      seq: queue.job_seq + 1,
      at: stored(at),
      requestId: randomUUID(),
      args: JSON.stringify(args),
      subjectId: source.hierarchyId,
      items: source.nodeCount,
    };
    const { lastInsertRowid: pk } = addJob.run(created);
    const eventSeq = queue.event_seq + 1;
    const time = at.toISOString();
    const snapshot = {
      pk,
      id: dashed(created.id),
      store: STORE,
      job_seq: created.seq,
      turn: created.seq,
      type: "hierarchy-duplicate",
      status: "pending",
      version: 1,
      created_at: time,
      started_at: null,
      completed_at: null,
      updated_at: time,
      request_id: created.requestId,
      requested_by: null,
      retry_of: null,
      args,
      result: null,
      subject_id: source.id,
      result_id: null,
      items: source.nodeCount,
      completed_items: 0,
      total_items: null,
      epoch: 0,
      attempts: 0,
      standing: [queue.pending + 1, startAt(queue, at)],
    };
    addEvent.run({ seq: eventSeq, pk, at: created.at, snapshot: JSON.stringify(snapshot) });
    advanceLane.run({
      jobSeq: created.seq,
      eventSeq,
      pending: queue.pending + 1,
      items: queue.pending_items + source.nodeCount,
      at: created.at,
    });
    return job.get({ id: created.id });
  }).immediate;

  const made = (Type, row) => (row ? new Type(row) : null);
  return {
    /** Returns the newest hierarchies of the store and the organization. */
    hierarchies(first) {
      const own = hierarchies.all(STORE, first);
      const shared = hierarchies.all(ORGANIZATION, first);
      const found = [...own, ...shared].map((row) => new Hierarchy(row));
      if (!shared.length) return found;
      const order = ({ stored, hierarchyId }) => stored.createdAt + hierarchyId;
      return found.sort((a, b) => (order(a) < order(b) ? 1 : -1)).slice(0, first);
    },
    hierarchy: (id) => made(Hierarchy, hierarchy.get(undashed(id))),
    children: (parent, first) =>
      children
        .all(parent.hierarchyPk, parent.number, first)
        .map((row) => new HierarchyNode(parent, row)),
    job: (id) => made(Job, job.get({ id: undashed(id) })),
    queuePosition: ({ row }) =>
      row.status === "pending" ? position.get({ turn: row.turn }) : null,
    duplicate: (id) => made(Job, enqueue(undashed(id))),
  };
}
