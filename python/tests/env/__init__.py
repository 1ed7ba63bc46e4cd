"""What authors of environments write, and what it becomes."""
