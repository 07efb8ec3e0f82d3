"""Mutations: inputs, payloads and resolvers, one noun per file."""
