"""HTTP API: GraphQL, REST, console, playground and probes."""
