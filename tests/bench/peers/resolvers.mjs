// The resolvers of the two peers on Node, over the same store. better-sqlite3 is synchronous, so a
// short statement per parent is faster than a batch for all parents: Mercurius' loaders have 0.65 of
// the requests per second on lists and trees, and dataloader gains nothing either.
import { readFileSync } from "node:fs";
import { open } from "./store.mjs";

export const schema = readFileSync(new URL("schema.graphql", import.meta.url), "utf8");

/** Returns resolvers over the database file at `path`. */
export function resolversOf(path) {
  const store = open(path);
  const name = (item, args) => item.name(args);
  const description = (item, args) => item.description(args);
  const children = (parent, { first }) => ({ nodes: store.children(parent, first) });
  return {
    Query: {
      hierarchies: (_, { first }) => ({ nodes: store.hierarchies(first) }),
      hierarchy: (_, { id }) => store.hierarchy(id),
      job: (_, { id }) => store.job(id),
    },
    Mutation: {
      duplicateHierarchy: (_, { input }) => {
        const job = store.duplicate(input.hierarchyId);
        return { job, errors: job ? [] : [{ message: "There is no such hierarchy." }] };
      },
    },
    Hierarchy: { name, description, children },
    HierarchyNode: { name, children },
    Job: { queuePosition: (job) => store.queuePosition(job) },
  };
}
