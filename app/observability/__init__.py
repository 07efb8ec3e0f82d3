"""Metrics and traces. Functions take values, never rows of tables."""
