"""One file a command: options, then one call; heavy imports inside the function."""
