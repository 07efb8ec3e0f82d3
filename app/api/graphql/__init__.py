"""The GraphQL API: schema, admission, plans, executor, transports."""
