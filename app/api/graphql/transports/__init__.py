"""The ways an operation can come and its results can go."""
