"""The GraphQL surface: schema, admission, plans, executor, transports."""
