"""Runs the jobs: a dispatcher claims, a worker runs one, an attempt is what its handler sees."""
