// @elasticpath/js-sdk against a gateway without a runner: jobs stay pending until they are cancelled.
// One job has failed before.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import { answered, cancel, ids, loggedIn, pages, refused, statusOf } from "./rest.mjs";

const client = await loggedIn();
const { Hierarchies, PCM } = client;
const { Jobs } = PCM;

const withStatus = async (status) => {
  const { data } = await answered(Jobs.Filter({ eq: { status } }).All());
  for (const job of data) assert.equal(statusOf(job), status);
  return data;
};

const [failed, ...more] = await withStatus("failed");
assert.deepEqual(more, []);
const { data: errors } = await answered(Jobs.GetJobErrors(failed.id));
assert.equal(errors.length, 1);
const [{ id, type, attributes }] = errors;
assert.equal(type, "pim-job-error");
assert.deepEqual(Object.keys(attributes), ["message"]);
assert.ok(id && attributes.message);
shown("the errors of a failed job");

const { data: source } = await answered(
  Hierarchies.Create({ type: "hierarchy", attributes: { name: "Herbs" } }),
  201,
);
const waiting = [];
for (let number = 0; number < 3; number++) {
  const { data } = await answered(
    Hierarchies.Duplicate(source.id, { type: "hierarchy", attributes: { name: `Herbs ${number}` } }),
    201,
  );
  assert.equal(statusOf(data), "pending");
  waiting.push(data);
}
assert.deepEqual(ids(await withStatus("pending")).sort(), ids(waiting).sort());
const [first, second, third] = waiting;
const { created_at } = second.attributes;
const { data: since } = await answered(Jobs.Filter({ ge: { created_at } }).All());
assert.ok(ids(since).includes(second.id) && ids(since).includes(third.id));
assert.ok(!ids(since).includes(failed.id));
shown("pending jobs");

const { data: cancelled } = await answered(cancel(client, second));
assert.equal(cancelled.id, second.id);
assert.equal(statusOf(cancelled), "cancelled");
assert.deepEqual((await answered(Jobs.Get(second.id))).data, cancelled);
assert.deepEqual(ids(await withStatus("cancelled")), [second.id]);
assert.deepEqual(ids(await withStatus("pending")).sort(), ids([first, third]).sort());
assert.deepEqual((await answered(Jobs.GetJobErrors(second.id))).data, []);
shown("a cancelled job");

const again = await refused(cancel(client, second), 422, "Failed Validation");
assert.match(again.detail, /cancelled/i);
const over = await refused(cancel(client, failed), 422, "Failed Validation");
assert.match(over.detail, /failed/i);
assert.deepEqual((await answered(Jobs.Get(second.id))).data, cancelled);
shown("only a pending job is cancelled, and only once");

const unknown = { id: "00000000-0000-4000-8000-000000000000" };
await refused(cancel(client, unknown), 404, "Not Found");
await refused(Jobs.Get(unknown.id), 404, "Not Found");
await refused(Jobs.GetJobErrors(unknown.id), 404, "Not Found");
shown("404 for an unknown job");

const listed = await pages((limit, offset) => Jobs.Limit(limit).Offset(offset).All(), 2);
assert.deepEqual(ids(listed).sort(), ids([failed, ...waiting]).sort());
shown("jobs, page by page");
