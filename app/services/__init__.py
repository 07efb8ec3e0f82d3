"""Every write of the product, once, and the feed that tells of them."""
