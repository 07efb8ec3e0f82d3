// Transforms the modules of relay/ as a bundler would, and runs relay/app.js.
import { transformFileSync } from "@babel/core";
import { readdirSync, writeFileSync } from "node:fs";

for (const name of readdirSync("built/relay", { recursive: true })) {
  if (!name.endsWith(".js")) continue;
  const { code } = transformFileSync(`built/relay/${name}`, { plugins: ["relay"] });
  // Node.js requires file names with their extensions.
  writeFileSync(`built/relay/${name}`, code.replaceAll(/\.graphql(["'];)/g, ".graphql.js$1"));
}
await import("./built/relay/app.js");
