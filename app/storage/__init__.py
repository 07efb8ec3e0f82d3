"""All SQL of the gateway. Functions take a Transaction and values, and return rows or values."""
