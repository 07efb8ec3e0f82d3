"""GraphQL transports: HTTP, server-sent events, multipart, WebSocket."""
