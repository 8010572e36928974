"""Engine folders: built, completed, run."""
