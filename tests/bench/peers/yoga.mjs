// GraphQL Yoga on node:http, with the JIT plugin of its authors.
import { createServer } from "node:http";
import { useGraphQlJit } from "@envelop/graphql-jit";
import { createSchema, createYoga } from "graphql-yoga";
import { resolversOf, schema } from "./resolvers.mjs";

const yoga = createYoga({
  schema: createSchema({ typeDefs: schema, resolvers: resolversOf(process.argv[2]) }),
  graphiql: false,
  landingPage: false,
  logging: false,
  multipart: false,
  plugins: [useGraphQlJit()],
});
const server = createServer(yoga);
server.listen(0, "127.0.0.1", () => {
  console.log(`  GraphQL http://127.0.0.1:${server.address().port}/graphql`);
});
