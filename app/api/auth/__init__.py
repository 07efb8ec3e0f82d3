"""Who may send requests: identity, keys, limits, throttle."""
