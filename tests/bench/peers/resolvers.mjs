// What the two peers on Node answer, from the same store. Statements run at once, as better-sqlite3
// has it, and a short one for each parent is faster than a batch for all of them: neither Mercurius'
// loaders (0.65 of its requests a second on lists and trees) nor dataloader would gain anything.
import { readFileSync } from "node:fs";
import { open } from "./store.mjs";

export const schema = readFileSync(new URL("schema.graphql", import.meta.url), "utf8");

/** Resolvers over the file at that path. */
export function resolversOf(path) {
  const store = open(path);
  const name = (item, said) => item.name(said);
  const description = (item, said) => item.description(said);
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
