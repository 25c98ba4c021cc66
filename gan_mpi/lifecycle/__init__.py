"""How a process begins, and what may end it."""
