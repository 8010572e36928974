"""What a detector says: head outputs, answers, neck vectors, views."""
