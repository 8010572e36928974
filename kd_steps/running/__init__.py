"""A stage while it runs: one writer of its outputs, no orphan, and how far it is."""
