"""One engine builder a file."""
