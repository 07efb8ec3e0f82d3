"""Every write of the product, each in one function, and the event feed."""
