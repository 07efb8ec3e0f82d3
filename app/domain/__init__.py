"""The rules of the catalogue and its jobs: pure values and functions, without I/O."""
