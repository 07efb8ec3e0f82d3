"""Translation between clients and the services: GraphQL, health, and the pages around them."""
