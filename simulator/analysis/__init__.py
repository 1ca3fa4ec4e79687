"""What is read from records."""
