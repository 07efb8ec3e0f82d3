"""Metrics and traces: values in, no tables."""
