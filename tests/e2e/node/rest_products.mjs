// @elasticpath/js-sdk against a gateway with the demo data: attaches the products of a filter to nodes,
// reads the nodes of a product and nodes by their ids, and detaches the products.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import { answered, emptied, ids, loggedIn, refused } from "./rest.mjs";

const { Hierarchies, PCM } = await loggedIn();
const { Nodes, Relationships } = Hierarchies;
const UNKNOWN = "00000000-0000-4000-8000-000000000000";

const sold = [];
for (const { id: hierarchyId } of (await answered(Hierarchies.All())).data) {
  const { data } = await answered(Nodes.All({ hierarchyId }));
  for (const { id: nodeId } of data) {
    sold.push(...(await answered(Relationships.Products({ hierarchyId, nodeId }))).data);
    if (sold.length > 3) break;
  }
}
const [first, second] = [...new Set(ids(sold))];
assert.ok(first && second);

const { data: herbs } = await answered(
  Hierarchies.Create({ type: "hierarchy", attributes: { name: "Herbs" } }),
  201,
);
const hierarchyId = herbs.id;
const nodes = [];
for (const name of ["Fresh", "Dried"]) {
  const body = { type: "node", attributes: { name } };
  nodes.push((await answered(Nodes.Create({ hierarchyId, body }), 201)).data);
}
const [fresh, dried] = nodes;

const filter = `in(id,${first},${second})`;
const attached = await answered(
  PCM.AttachNodes({ filter, node_ids: [fresh.id, dried.id, UNKNOWN] }),
);
assert.deepEqual(attached.meta, { nodes_attached: 2, nodes_not_found: [UNKNOWN] });
for (const { id: nodeId } of nodes) {
  const { data } = await answered(Relationships.Products({ hierarchyId, nodeId }));
  assert.deepEqual(ids(data).sort(), [first, second].sort());
}
const invalid = { filter: "eq(colour,red)", node_ids: [fresh.id] };
await refused(PCM.AttachNodes(invalid), 400, "Bad Request");
shown("products of a filter, attached to nodes");

const { data: nodesOfFirst, meta } = await answered(PCM.GetProductNodes(first));
assert.equal(meta.results.total, nodesOfFirst.length);
for (const { id } of nodes) assert.ok(ids(nodesOfFirst).includes(id));
assert.deepEqual(
  nodesOfFirst.find(({ id }) => id === fresh.id),
  (await answered(Nodes.Get({ hierarchyId, nodeId: fresh.id }))).data,
);
await refused(PCM.GetProductNodes(UNKNOWN), 404, "Not Found");
shown("the nodes of a product");

const { data: found } = await answered(Hierarchies.GetNodesByIds([fresh.id, hierarchyId, UNKNOWN]));
assert.deepEqual(ids(found).sort(), [fresh.id, hierarchyId].sort());
assert.deepEqual(
  found.map(({ type }) => type).sort(),
  ["hierarchy", "node"],
);
shown("nodes by their ids");

const body = { type: "node", id: fresh.id, attributes: { curated_products: [second] } };
await answered(Nodes.Update({ hierarchyId, nodeId: fresh.id, body }));
const { data: curated } = await answered(
  Relationships.Products({ hierarchyId, nodeId: fresh.id }),
);
assert.deepEqual(ids(curated), [second, first]);
assert.deepEqual(
  curated.map(({ attributes }) => attributes.curated_product),
  [true, undefined],
);
shown("curated products");

const detached = await answered(PCM.DetachNodes({ filter, node_ids: ids(nodes) }));
assert.deepEqual(detached.meta, { nodes_detached: 2, nodes_not_found: [] });
for (const { id: nodeId } of nodes) {
  const { data } = await answered(Relationships.Products({ hierarchyId, nodeId }));
  assert.deepEqual(data, []);
}
await emptied(Hierarchies.Delete(hierarchyId));
shown("products of a filter, detached");
