"""What the dossier shows."""
