"""Admission: which operations are run, and at which cost."""
