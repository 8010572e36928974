"""Training a detector with Ultralytics' loop; it knows no teacher."""
