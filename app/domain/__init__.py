"""The rules of the catalogue and its jobs: pure values and functions, no I/O, no other imports."""
