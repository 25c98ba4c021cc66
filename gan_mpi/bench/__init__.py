"""How fast a step is, and what of it is what."""
