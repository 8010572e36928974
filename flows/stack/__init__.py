"""The servers of a plant on loopback, natively: for a person who tries them out, and for tests."""
