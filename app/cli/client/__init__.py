"""The command line's client of a running gateway."""
