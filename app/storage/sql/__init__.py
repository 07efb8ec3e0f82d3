"""How SQL is made."""
