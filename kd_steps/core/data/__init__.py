"""Pictures, labels, classes and splits."""
