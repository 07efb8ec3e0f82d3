"""Sources of field values: declarations, loaders, lazy pages."""
