"""HTML pages: console and playground."""
