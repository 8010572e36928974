"""The prepared set and the folders of new parts as files."""
