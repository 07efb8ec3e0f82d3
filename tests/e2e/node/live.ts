// One socket for the subscriptions of any frontend.
import { createClient, type Client } from "graphql-ws";

/** Returns a client whose subscriptions resume on a new socket, after the last received event. */
export function connect(url: string, token?: string): Client {
  const client = createClient({
    url,
    connectionParams: token ? { Authorization: `Bearer ${token}` } : undefined,
    retryAttempts: Infinity,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 100 + 900 * Math.random())),
    shouldRetry: (problem) => (problem as CloseEvent).code !== 4403,
  });
  const subscribe: Client["subscribe"] = (payload, sink) => {
    const variables = { ...payload.variables };
    const next: typeof sink.next = (result) => {
      const [event] = Object.values<{ cursor?: string }>(result.data ?? {});
      if (event?.cursor) variables.after = event.cursor;
      sink.next(result);
    };
    return client.subscribe({ ...payload, variables }, { ...sink, next });
  };
  return { ...client, subscribe };
}
