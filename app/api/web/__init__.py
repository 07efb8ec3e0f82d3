"""The pages: console and playground."""
