"""Published figures, again."""
