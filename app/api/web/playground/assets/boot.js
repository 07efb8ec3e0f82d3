/* Starts GraphiQL. React, ReactDOM, GraphiQL and graphqlWs are globals of earlier scripts. */

const endpoint = location.origin + location.pathname;
const socket = endpoint.replace(/^http/, "ws");
const { GraphQL } = GraphiQL;

const overHttp = GraphiQL.createFetcher({
  url: endpoint,
  enableIncrementalDelivery: false,
  headers: { Accept: "application/graphql-response+json, application/json;q=0.9" },
});

/* A browser cannot set headers on a WebSocket, so those of the headers editor go into
   connection_init. One socket per subscription: each starts with the current headers. */
function overSocket(request, headers) {
  return {
    subscribe(sink) {
      const client = graphqlWs.createClient({
        url: socket,
        connectionParams: headers,
        retryAttempts: 0, // a silent retry would restart the stream from its beginning
      });
      const error = (cause) => sink.error(cause instanceof CloseEvent ? closed(cause) : cause);
      return { unsubscribe: client.subscribe(request, { ...sink, error }) };
    },
  };
}

function closed({ code, reason }) {
  return [{ message: `The connection closed (${code}${reason && `: ${reason}`}).` }];
}

let newestJob = "";

async function fetcher(request, options = {}) {
  const operation =
    options.documentAST && GraphQL.getOperationAST(options.documentAST, request.operationName);
  if (operation?.operation === "subscription") return overSocket(request, options.headers);
  const result = await overHttp(request, options);
  newestJob = result.data?.duplicateHierarchy?.job?.id ?? newestJob;
  return result;
}

/* A tab opened after a duplication gets the new job's id, unless the user has typed another. */
const insertedIds = new Set([""]);
let activeTab;

function followJob({ tabs, activeTabIndex }) {
  const tab = tabs[activeTabIndex];
  if (tab.id === activeTab) return;
  activeTab = tab.id;
  let variables;
  try {
    variables = JSON.parse(tab.variables);
  } catch {
    return;
  }
  if (!insertedIds.has(variables?.jobId) || variables.jobId === newestJob) return;
  insertedIds.add(newestJob);
  // GraphiQL first sets its editors to the tab's own values.
  setTimeout(() => {
    render({ variables: pretty({ ...variables, jobId: newestJob }) });
    render(); // GraphiQL applies changed properties only, and the next tab may get the same
  });
}

const pretty = (value) => JSON.stringify(value, null, 2);

async function text(name) {
  const response = await fetch(new URL(`${name}.graphql`, import.meta.url));
  if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
  return response.text();
}

/* Empty ids if the store is empty, or if reading needs a token. */
async function newestIds() {
  try {
    const { data } = await overHttp({ query: await text("Newest") });
    return [data.hierarchies.nodes[0]?.id ?? "", data.jobs.nodes[0]?.id ?? ""];
  } catch {
    return ["", ""];
  }
}

async function tabs() {
  const [list, duplicate, watch, cancel, [hierarchyId, jobId]] = await Promise.all([
    text("ListHierarchies"),
    text("DuplicateHierarchy"),
    text("WatchJob"),
    text("CancelJob"),
    newestIds(),
  ]);
  newestJob = jobId;
  insertedIds.add(jobId);
  return [
    { query: list },
    { query: duplicate, variables: pretty({ input: { hierarchyId, includeProducts: true } }) },
    { query: watch, variables: pretty({ jobId }) },
    { query: cancel, variables: pretty({ jobId }) },
  ];
}

/* GraphiQL's history keeps the headers of every request; a token must not outlive the page. */
const storage = {
  get length() {
    return localStorage.length;
  },
  getItem: (key) => localStorage.getItem(key),
  setItem: (key, value) => localStorage.setItem(key, withoutHeaders(key, value)),
  removeItem: (key) => localStorage.removeItem(key),
  clear: () => localStorage.clear(),
};

function withoutHeaders(key, value) {
  if (key !== "graphiql:queries" && key !== "graphiql:favorites") return value;
  return JSON.stringify(JSON.parse(value, (name, item) => (name === "headers" ? null : item)));
}

const root = document.getElementById("playground");
const defaultTabs = await tabs();

function render(properties) {
  ReactDOM.render(
    React.createElement(GraphiQL, {
      fetcher,
      defaultTabs,
      onTabChange: followJob,
      isHeadersEditorEnabled: true,
      defaultEditorToolsVisibility: true,
      shouldPersistHeaders: false,
      storage,
      inputValueDeprecation: true,
      schemaDescription: true,
      ...properties,
    }),
    root,
  );
}

render();
