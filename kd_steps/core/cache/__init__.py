"""What a teacher cache holds, as bytes and keys; it knows no loss."""
