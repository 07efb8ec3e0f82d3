"""HTTP plumbing shared by all wings."""
