"""The REST API of the reference documents: JSON:API over the same services as GraphQL."""
