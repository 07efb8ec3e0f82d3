"""Whether an operation is run: who asks, how often, for what, and what that would cost."""
