"""jobs-gateway: a GraphQL gateway for the jobs of a product catalogue."""

__version__ = "0.1.0"
