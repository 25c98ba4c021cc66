"""What can be asked for, and what contradicts."""
