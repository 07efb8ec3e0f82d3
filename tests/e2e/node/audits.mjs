// The audits of graphql-http: prints one line of JSON per audit.
import { serverAudits } from "graphql-http";
import { url } from "./gateway.mjs";

for (const audit of serverAudits({ url })) {
  const { id, name, status, reason } = await audit.fn();
  console.log(JSON.stringify({ id, name, status, reason }));
  if (status !== "ok") process.exitCode = 1;
}
