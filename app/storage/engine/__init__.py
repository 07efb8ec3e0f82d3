"""How databases are opened, read and written."""
