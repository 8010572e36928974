"""Drawn boards: what stands on them, where, and how it is wired."""
