import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "schema.graphql",
  documents: "operations.graphql",
  config: { scalars: { DateTime: "string", ID: "string" }, strictScalars: true },
  generates: {
    "generated/graphql.ts": { plugins: ["typescript-operations", "typed-document-node"] },
    "generated/possibleTypes.ts": { plugins: ["fragment-matcher"] },
    "generated/introspection.json": { plugins: ["introspection"] },
  },
};
export default config;
