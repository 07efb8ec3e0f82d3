"""How fields are read: declarations, loaders, lazy pages."""
