"""What a student learns from a teacher: losses, their weights over the epochs, and when a teacher is right."""
