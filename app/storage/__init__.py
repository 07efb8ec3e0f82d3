"""All SQL of the gateway. Functions take a Session and values, and return rows or values."""
