"""Databases: connections, transactions and threads."""
