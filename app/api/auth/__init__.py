"""Authentication, limits and throttling of clients."""
