// Mercurius on Fastify, with its JIT.
import Fastify from "fastify";
import mercurius from "mercurius";
import { resolversOf, schema } from "./resolvers.mjs";

const app = Fastify();
app.register(mercurius, { schema, resolvers: resolversOf(process.argv[2]), jit: 1 });
await app.listen({ host: "127.0.0.1", port: 0 });
console.log(`  GraphQL http://127.0.0.1:${app.server.address().port}/graphql`);
