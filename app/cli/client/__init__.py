"""Client of a running gateway, for the command line."""
