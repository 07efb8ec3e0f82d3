"""Kinds of fields, one per file: how each executor computes their values."""
