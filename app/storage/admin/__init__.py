"""Read-only views of a database for operators."""
