// The client @elasticpath/js-sdk on a gateway, with the status and media type that it hides. Scripts
// that import this take the client's id and secret after the URL.
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { MemoryStorageFactory, gateway } from "@elasticpath/js-sdk";
import { url } from "./gateway.mjs";

const [, id = "any", secret] = process.argv.slice(2);

/** Id and secret of the client; a gateway without authentication accepts any id. */
export const credentials = { client_id: id, ...(secret && { client_secret: secret }) };
export const isGuarded = Boolean(secret);

// The client logs to stdout, which is reserved for `shown`.
console.info = console.error;

/** Status and media type of the last response; the client returns only the body. */
export const last = {};

async function fetchAndRecord(address, options) {
  delete last.status;
  const response = await fetch(address, options);
  last.status = response.status;
  last.type = response.headers.get("content-type");
  return response;
}

/** Returns a client in its normal set-up, which logs in by itself. */
export function connect(options = credentials) {
  const { protocol, host } = new URL(url);
  return gateway({
    protocol: protocol.replace(":", ""),
    host,
    custom_fetch: fetchAndRecord,
    storage: new MemoryStorageFactory(),
    disableCart: true,
    // The client repeats requests after 401 and 429.
    retryDelay: 1,
    retryJitter: 1,
    ...options,
  });
}

/** Returns a client with this token, in place of a login. */
export function connectWith(bearer) {
  return connect({
    custom_authenticator: async () => ({
      access_token: bearer,
      expires: Math.floor(Date.now() / 1000) + 3600,
    }),
  });
}

/** Returns a client after its login. The first request of a client that is not logged in never clears
 * its filters and limits. */
export async function loggedIn() {
  const client = connect();
  await client.Authenticate();
  return client;
}

/** Returns the document of a response with this status. */
export async function answered(request, status = 200) {
  const [{ value, reason }] = await Promise.allSettled([request]);
  assert.equal(last.status, status, inspect(reason ?? value));
  assert.match(last.type, /^application\/(vnd\.api\+)?json(;|$)/);
  return value;
}

/** Checks for a 204 response; the client returns "{}" for its empty body. */
export async function emptied(request) {
  const [{ value, reason }] = await Promise.allSettled([request]);
  assert.equal(last.status, 204, inspect(reason));
  assert.equal(value, "{}");
}

/** Returns the only error of a refusal; the client rejects with the unchanged body. */
export async function refused(request, status, title) {
  const [{ value, reason }] = await Promise.allSettled([request]);
  assert.equal(last.status, status, inspect(reason ?? value));
  const [error, ...more] = reason.errors;
  assert.deepEqual(more, []);
  assert.deepEqual([error.status, error.title], [String(status), title]);
  return error;
}

/** Reads a whole list in pages of `limit`. */
export async function pages(read, limit) {
  const data = [];
  for (;;) {
    const page = await answered(read(limit, data.length));
    assert.ok(page.data.length <= limit, `${page.data.length} of ${limit}`);
    data.push(...page.data);
    assert.ok(data.length <= page.meta.results.total);
    assert.equal(!page.links.next, data.length === page.meta.results.total);
    assert.equal(!page.links.prev, data.length === page.data.length);
    if (!page.links.next) return data;
    assert.ok(page.data.length, "a page with a next page is empty");
  }
}

/** Reads the page of a list at a link. */
export function follow(client, link) {
  return answered(client.PCM.request.send(link.replace(/^\/(pcm\/)?/, ""), "GET"));
}

/** Cancels a job. The client has no function for it; this sends the request as its functions do. */
export function cancel(client, { id }) {
  return client.PCM.Jobs.request.send(`jobs/${id}/cancel`, "POST");
}

export const ids = (resources) => resources.map(({ id }) => id);

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

/** Parses a time in the format of the reference documents. */
export function time(value) {
  assert.match(value, TIME);
  return new Date(value);
}

/** Checks the attributes that every job has, and returns its status. */
export function statusOf(job, type = "hierarchy-duplicate") {
  assert.equal(job.type, "pim-job");
  const { status, ...attributes } = job.attributes;
  assert.deepEqual(Object.keys(attributes).sort(), [
    "completed_at",
    "created_at",
    "started_at",
    "type",
    "updated_at",
  ]);
  assert.equal(attributes.type, type);
  const created = time(attributes.created_at);
  assert.ok(created <= time(attributes.updated_at));
  const ran = status === "success" || status === "failed";
  if (ran || status === "started") assert.ok(created <= time(attributes.started_at));
  else assert.equal(attributes.started_at, null);
  if (ran) assert.ok(time(attributes.started_at) <= time(attributes.completed_at));
  else assert.equal(attributes.completed_at, null);
  assert.ok(job.meta.x_request_id);
  return status;
}
