// Logins of @elasticpath/js-sdk in its normal set-up: with id and secret, with the id alone, with wrong
// credentials, and again when its token has expired or is no longer valid.
import assert from "node:assert/strict";
import { shown } from "./gateway.mjs";
import { answered, connect, credentials, isGuarded, last, refused } from "./rest.mjs";

const KEY = "epCredentials";
const created = { type: "hierarchy", attributes: { name: "Herbs" } };
const now = () => Math.floor(Date.now() / 1000);

const client = connect();
const login = await client.Authenticate();
assert.equal(last.status, 200);
assert.deepEqual(Object.keys(login).sort(), [
  "access_token",
  "expires",
  "expires_in",
  "identifier",
  "token_type",
]);
assert.equal(login.token_type, "Bearer");
assert.equal(login.identifier, isGuarded ? "client_credentials" : "implicit");
assert.equal(login.expires_in, 3600);
assert.ok(Math.abs(login.expires - now() - 3600) < 60);
const { storage } = client.config;
const stored = () => JSON.parse(storage.get(KEY));
assert.equal(stored().access_token, login.access_token);
await answered(client.Hierarchies.All());
assert.equal(stored().access_token, login.access_token);
shown("a login");

const lazy = connect();
await answered(lazy.Hierarchies.All());
assert.ok(JSON.parse(lazy.config.storage.get(KEY)).access_token);
const parallel = connect();
await Promise.all(Array.from({ length: 20 }, () => parallel.Hierarchies.All()));
shown("logins with the first requests");

storage.set(KEY, JSON.stringify({ ...stored(), access_token: "old", expires: now() }));
await answered(client.Hierarchies.All());
assert.notEqual(stored().access_token, "old");
shown("a login after the token expired");

if (isGuarded) {
  storage.set(KEY, JSON.stringify({ ...stored(), access_token: "withdrawn" }));
  await answered(client.Hierarchies.All());
  assert.notEqual(stored().access_token, "withdrawn");
  shown("a login after 401");

  for (const wrong of [{ client_secret: "wrong" }, { client_id: "unknown" }]) {
    const stranger = connect({ ...credentials, ...wrong });
    for (const attempt of [stranger.Authenticate(), stranger.Hierarchies.All()]) {
      await refused(attempt, 401, "Unauthorized");
    }
  }
  shown("401 with wrong credentials");

  await refused(connect({ client_id: credentials.client_id }).Authenticate(), 401, "Unauthorized");
  const shopper = connect({ client_id: "web" });
  assert.equal((await shopper.Authenticate()).identifier, "implicit");
  await answered(shopper.Hierarchies.All());
  await refused(shopper.Hierarchies.Create(created), 403, "Forbidden");
  shown("an implicit login, for reading");
}

// Options with which it adds headers to each request.
const decorated = connect({
  ...credentials,
  application: "shop",
  currency: "EUR",
  language: "fr",
  headers: { "EP-Channel": "web", "EP-Context-Tag": "sale" },
});
await answered(decorated.Hierarchies.All("customer"));
shown("the headers of its options");
