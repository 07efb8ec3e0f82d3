"""Admission: validation, cost, scopes and limits of an operation before it runs."""
