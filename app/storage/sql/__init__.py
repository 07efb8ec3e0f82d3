"""Building blocks of SQL: statements, rows, pagination, filters, dialects, column types."""
