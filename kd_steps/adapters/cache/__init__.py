"""The teacher cache as files."""
