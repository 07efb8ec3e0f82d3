// @elasticpath/js-sdk against a gateway that runs its queue, with the demo data: reads the catalogue,
// creates a hierarchy with nodes and products, duplicates it, and deletes both.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import {
  answered,
  connectWith,
  emptied,
  follow,
  ids,
  isGuarded,
  loggedIn,
  pages,
  refused,
  statusOf,
  time,
} from "./rest.mjs";

const client = await loggedIn();
const { Hierarchies, PCM } = client;
const { Nodes, Relationships } = Hierarchies;
const { Jobs } = PCM;

/** Reads all nodes of a hierarchy. The builder of Nodes keeps its Limit and Offset. */
const nodesOf = (hierarchyId, limit = 100) =>
  pages((size, offset) => Nodes.Limit(size).Offset(offset).All({ hierarchyId }), limit);
const rootsOf = (hierarchyId) =>
  pages((size, offset) => Hierarchies.Limit(size).Offset(offset).Children(hierarchyId), 100);
const childrenOf = (hierarchyId, nodeId) =>
  pages(
    (size, offset) => Nodes.Limit(size).Offset(offset).GetNodeChildren({ hierarchyId, nodeId }),
    100,
  );
const productsOf = (hierarchyId, nodeId) =>
  pages(
    (size, offset) => Relationships.Limit(size).Offset(offset).Products({ hierarchyId, nodeId }),
    100,
  );
const parentOf = (node) => node.relationships.parent?.data.id;

/** Returns a tree of names, each with the SKUs of its products, whether curated, and its children. */
async function treeOf(hierarchyId) {
  const below = async (nodes) => {
    const tree = [];
    for (const { id, attributes } of nodes) {
      const products = await productsOf(hierarchyId, id);
      tree.push([
        attributes.name,
        products.map(({ attributes }) => [attributes.sku, Boolean(attributes.curated_product)]),
        await below(await childrenOf(hierarchyId, id)),
      ]);
    }
    return tree;
  };
  return below(await rootsOf(hierarchyId));
}

const { data: hierarchies, meta } = await answered(Hierarchies.All());
assert.ok(hierarchies.length > 2);
assert.equal(meta.results.total, hierarchies.length);
for (const { type, attributes, relationships, meta } of hierarchies) {
  assert.equal(type, "hierarchy");
  assert.ok(attributes.name);
  assert.ok("locales" in attributes);
  assert.deepEqual(meta.breadcrumbs.map((item) => item.name), [attributes.name]);
  assert.deepEqual(relationships.children.data, []);
  assert.ok(relationships.children.links.related);
  assert.equal(meta.owner, "store");
  assert.ok(time(meta.created_at) <= time(meta.updated_at));
}
for (const size of [1, 2, 100]) {
  const paged = await pages((limit, offset) => Hierarchies.Limit(limit).Offset(offset).All(), size);
  assert.deepEqual(ids(paged), ids(hierarchies));
}
shown("hierarchies, page by page");

const first = await answered(Hierarchies.Limit(1).All());
const onward = [first];
while (onward.at(-1).links.next) onward.push(await follow(client, onward.at(-1).links.next));
assert.deepEqual(ids(onward.flatMap(({ data }) => data)), ids(hierarchies));
const back = [onward.at(-1)];
while (back[0].links.prev) back.unshift(await follow(client, back[0].links.prev));
assert.deepEqual(back, onward);
assert.deepEqual(await follow(client, first.links.last), onward.at(-1));
assert.deepEqual(await follow(client, first.links.first), first);
shown("hierarchies, along the links of their pages");

const [demo] = hierarchies;
const { name } = demo.attributes;
const filters = [{ eq: { name } }, { in: { id: [demo.id] } }, { like: { name: `${name}*` } }];
for (const filter of filters) {
  const { data } = await answered(Hierarchies.Filter(filter).All());
  assert.ok(data.length && data.every(({ attributes }) => attributes.name.startsWith(name)));
  assert.ok(ids(data).includes(demo.id));
}
const red = { eq: { colour: "red" } };
const refusal = await refused(Hierarchies.Filter(red).All(), 400, "Bad Request");
assert.ok(refusal.detail.startsWith("Could not parse the supplied filter"), refusal.detail);
shown("filters");

assert.deepEqual((await answered(Hierarchies.Get(demo.id))).data, demo);
shown("a hierarchy");

const nodes = await nodesOf(demo.id);
assert.deepEqual(ids(await nodesOf(demo.id, 7)), ids(nodes));
assert.equal(new Set(ids(nodes)).size, nodes.length);
for (const node of nodes) {
  assert.equal(node.type, "node");
  assert.ok(node.attributes.name);
  const { data } = await answered(Nodes.Get({ hierarchyId: demo.id, nodeId: node.id }));
  assert.deepEqual(data, node);
}
shown("nodes");

const roots = await rootsOf(demo.id);
assert.deepEqual(ids(roots).sort(), ids(nodes.filter((node) => !parentOf(node))).sort());
for (const { id } of nodes) {
  const children = nodes.filter((node) => parentOf(node) === id);
  assert.deepEqual(ids(await childrenOf(demo.id, id)).sort(), ids(children).sort());
}
assert.ok(roots.length && roots.length < nodes.length);
shown("children");

const { data: herbs } = await answered(
  Hierarchies.Create({
    type: "hierarchy",
    attributes: { name: "Herbs", description: "Fresh and dried", slug: "herbs" },
  }),
  201,
);
assert.equal(herbs.type, "hierarchy");
assert.deepEqual([herbs.attributes.name, herbs.attributes.slug], ["Herbs", "herbs"]);
assert.equal(herbs.attributes.description, "Fresh and dried");
assert.deepEqual((await answered(Hierarchies.Get(herbs.id))).data, herbs);
assert.deepEqual(await nodesOf(herbs.id), []);
shown("a new hierarchy");

const hierarchyId = herbs.id;

async function create(name, { parent, sort_order }) {
  const body = { type: "node", attributes: { name, slug: name.toLowerCase() } };
  if (parent) body.relationships = { parent: { data: { type: "node", id: parent.id } } };
  if (sort_order !== undefined) body.meta = { sort_order };
  const { data } = await answered(Nodes.Create({ hierarchyId, body }), 201);
  assert.equal(data.type, "node");
  assert.deepEqual([data.attributes.name, data.attributes.slug], [name, name.toLowerCase()]);
  assert.equal(parentOf(data), parent?.id);
  assert.equal(data.meta.sort_order, sort_order);
  return data;
}

const fresh = await create("Fresh", { sort_order: 1 });
const dried = await create("Dried", { sort_order: 2 });
const mint = await create("Mint", { parent: fresh });
const apple = await create("Apple", { parent: mint });
// Nodes with a higher sort_order come first.
assert.deepEqual(ids(await rootsOf(hierarchyId)), ids([dried, fresh]));
assert.deepEqual(ids(await childrenOf(hierarchyId, fresh.id)), [mint.id]);
assert.deepEqual(ids(await childrenOf(hierarchyId, mint.id)), [apple.id]);
assert.deepEqual(ids(await nodesOf(hierarchyId)).sort(), ids([fresh, dried, mint, apple]).sort());
shown("new nodes below one another");

const { data: renamed } = await answered(
  Nodes.Update({
    hierarchyId,
    nodeId: mint.id,
    body: { type: "node", id: mint.id, attributes: { name: "Mints" } },
  }),
);
assert.deepEqual(renamed.attributes, { ...mint.attributes, name: "Mints" });
assert.equal(parentOf(renamed), fresh.id);
assert.ok(time(mint.meta.updated_at) <= time(renamed.meta.updated_at));
const { data: reread } = await answered(Nodes.Get({ hierarchyId, nodeId: mint.id }));
assert.deepEqual(reread, renamed);
const { data: retitled } = await answered(
  Hierarchies.Update(hierarchyId, { attributes: { description: "For tea" } }),
);
assert.deepEqual(retitled.attributes, { ...herbs.attributes, description: "For tea" });
shown("other names");

const twin = { type: "node", attributes: { name: "Fresh" } };
await refused(Nodes.Create({ hierarchyId, body: twin }), 422, "Failed Validation");
const nameless = { type: "hierarchy", attributes: { name: "" } };
await refused(Hierarchies.Create(nameless), 422, "Failed Validation");
assert.equal((await nodesOf(hierarchyId)).length, 4);
shown("a broken rule");

const parent = { type: "node", id: dried.id };
await emptied(Relationships.ChangeParent({ hierarchyId, nodeId: mint.id, body: parent }));
assert.deepEqual(ids(await childrenOf(hierarchyId, dried.id)), [mint.id]);
await emptied(Relationships.DeleteParent({ hierarchyId, nodeId: mint.id }));
assert.deepEqual(ids(await childrenOf(hierarchyId, dried.id)), []);
const sorted = [{ type: "node", id: mint.id, meta: { sort_order: 3 } }];
await answered(
  Relationships.CreateChildrenSortOrder({ hierarchyId, nodeId: fresh.id, body: sorted }),
);
assert.deepEqual(ids(await childrenOf(hierarchyId, fresh.id)), [mint.id]);
assert.deepEqual(ids(await childrenOf(hierarchyId, mint.id)), [apple.id]);
shown("moves");

const sold = [];
for (const { id } of nodes) {
  if (sold.length < 3) sold.push(...(await productsOf(demo.id, id)));
}
const attached = [...new Set(ids(sold))].slice(0, 3).map((id) => ({ type: "product", id }));
assert.equal(attached.length, 3);
await answered(Relationships.Create({ hierarchyId, nodeId: apple.id, body: attached }), 201);
const [detached, ...kept] = attached;
await answered(Relationships.Delete({ hierarchyId, nodeId: apple.id, body: [detached] }));
const curated = [kept[1].id];
await answered(
  Nodes.Update({
    hierarchyId,
    nodeId: apple.id,
    body: { type: "node", id: apple.id, attributes: { curated_products: curated } },
  }),
);
assert.deepEqual(ids(await productsOf(hierarchyId, apple.id)), [kept[1].id, kept[0].id]);
const unknown = [{ type: "product", id: "00000000-0000-4000-8000-000000000000" }];
const missing = await refused(
  Relationships.Create({ hierarchyId, nodeId: apple.id, body: unknown }),
  404,
  "Not Found",
);
assert.deepEqual(missing.meta.missing_ids, ids(unknown));
shown("products");

const tree = await treeOf(hierarchyId);
const queued = await answered(
  Hierarchies.Duplicate(hierarchyId, {
    type: "hierarchy",
    attributes: { name: "More herbs", include_products: true },
  }),
  201,
);
assert.equal(queued.data.attributes.status, "pending");
statusOf(queued.data);
shown("a duplication");

let job = queued.data;
while (["pending", "started"].includes(statusOf(job))) {
  ({ data: job } = await answered(Jobs.Get(queued.data.id)));
  assert.equal(job.id, queued.data.id);
}
assert.equal(job.attributes.status, "success");
assert.equal(job.meta.copied_from, hierarchyId);
shown("its job, up to the success");

const listed = await pages((limit, offset) => Jobs.Limit(limit).Offset(offset).All(), 1);
assert.ok(listed.length > 1);
assert.deepEqual(
  listed.find(({ id }) => id === job.id),
  job,
);
const { data: successful } = await answered(
  Jobs.Filter({ eq: { status: "success", type: "hierarchy-duplicate" } }).All(),
);
assert.ok(ids(successful).includes(job.id));
const { data: others } = await answered(Jobs.Filter({ eq: { status: "failed" } }).All());
assert.deepEqual(others, []);
assert.deepEqual((await answered(Jobs.GetJobErrors(job.id))).data, []);
shown("jobs, page by page");

const { data: copy } = await answered(Hierarchies.Get(job.meta.hierarchy_id));
assert.deepEqual(copy.attributes, { ...retitled.attributes, name: "More herbs" });
assert.ok(ids((await answered(Hierarchies.All())).data).includes(copy.id));
assert.deepEqual(await treeOf(copy.id), tree);
const copied = ids(await nodesOf(copy.id));
assert.equal(copied.length, 4);
for (const { id } of await nodesOf(hierarchyId)) assert.ok(!copied.includes(id));
shown("the copy, by the job's hierarchy_id");

await emptied(Nodes.Delete({ hierarchyId: copy.id, nodeId: copied[0] }));
await refused(Nodes.Get({ hierarchyId: copy.id, nodeId: copied[0] }), 404, "Not Found");
for (const { id } of [copy, herbs]) {
  await emptied(Hierarchies.Delete(id));
  await refused(Hierarchies.Get(id), 404, "Not Found");
  await refused(Nodes.All({ hierarchyId: id }), 404, "Not Found");
  await refused(Hierarchies.Delete(id), 404, "Not Found");
  await refused(Hierarchies.Duplicate(id, { type: "hierarchy", attributes: {} }), 404, "Not Found");
}
assert.deepEqual(ids((await answered(Hierarchies.All())).data), ids(hierarchies));
shown("404 for a deleted hierarchy");

if (isGuarded) {
  for (const bearer of [null, "unknown"]) {
    await refused(connectWith(bearer).Hierarchies.All(), 401, "Unauthorized");
  }
  shown("401 without a valid token");
}
