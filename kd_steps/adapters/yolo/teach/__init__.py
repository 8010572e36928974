"""Teachers that answer, and the student's side of distillation."""
