"""Whether data is acceptable."""
