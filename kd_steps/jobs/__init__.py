"""How a student learns from a teacher; what the stages of teachers, assistants and students share. No stage itself."""
