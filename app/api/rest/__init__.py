"""The REST surface that the reference documents describe: JSON:API over the same services."""
