// The client @elasticpath/js-sdk pointed at a gateway, and what it leaves unsaid of the answers.
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { MemoryStorageFactory, gateway } from "@elasticpath/js-sdk";
import { token, url } from "./gateway.mjs";

// The client says where its token comes from on stdout, which is for what is shown.
console.info = console.error;

/** The status and the media type of the last answer: the client keeps the body alone. */
export const last = {};

async function fetchAndNote(address, options) {
  delete last.status;
  const response = await fetch(address, options);
  last.status = response.status;
  last.type = response.headers.get("content-type");
  return response;
}

/** A client with this bearer token, or with none. One that has none never clears its filters and
 * limits, so it has some token also where nobody asks for one. */
export function connect(bearer = token ?? "anybody") {
  const { protocol, host } = new URL(url);
  return gateway({
    protocol: protocol.replace(":", ""),
    host,
    custom_authenticator: async () => ({
      access_token: bearer,
      expires: Math.floor(Date.now() / 1000) + 3600,
    }),
    custom_fetch: fetchAndNote,
    storage: new MemoryStorageFactory(),
    disableCart: true,
    // It repeats what was refused with 401 or 429.
    retryDelay: 1,
    retryJitter: 1,
  });
}

/** What was asked for, which comes with this status. */
export async function answered(asked, status = 200) {
  const [{ value, reason }] = await Promise.allSettled([asked]);
  assert.equal(last.status, status, inspect(reason ?? value));
  assert.match(last.type, /^application\/(vnd\.api\+)?json(;|$)/);
  return value;
}

/** What was asked for and has no content: the client makes this of an empty body. */
export async function emptied(asked) {
  const [{ value, reason }] = await Promise.allSettled([asked]);
  assert.equal(last.status, 204, inspect(reason));
  assert.equal(value, "{}");
}

/** The one error that a request is refused with; the client rejects with the body as it is. */
export async function refused(asked, status, title) {
  const [{ value, reason }] = await Promise.allSettled([asked]);
  assert.equal(last.status, status, inspect(reason ?? value));
  const [error, ...more] = reason.errors;
  assert.deepEqual(more, []);
  assert.deepEqual([error.status, error.title], [String(status), title]);
  return error;
}

/** A whole list, page by page of that length, however long it is. */
export async function pages(ask, limit) {
  const data = [];
  for (;;) {
    const page = await answered(ask(limit, data.length));
    assert.ok(page.data.length <= limit, `${page.data.length} of ${limit}`);
    data.push(...page.data);
    assert.ok(data.length <= page.meta.results.total);
    assert.equal(!page.links.next, data.length === page.meta.results.total);
    assert.equal(!page.links.prev, data.length === page.data.length);
    if (!page.links.next) return data;
    assert.ok(page.data.length, "a page between others is empty");
  }
}

/** The page of a list that a link of another page leads to. */
export function follow(client, link) {
  return answered(client.PCM.request.send(link.replace(/^\/(pcm\/)?/, ""), "GET"));
}

/** Cancel a job. The client has no function for that; this is how it sends what it has one for. */
export function cancel(client, { id }) {
  return client.PCM.Jobs.request.send(`jobs/${id}/cancel`, "POST");
}

export const ids = (resources) => resources.map(({ id }) => id);

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

/** A time as the documents write it. */
export function time(value) {
  assert.match(value, TIME);
  return new Date(value);
}

/** What each job has, and its status. */
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
