"""One run: how it begins, its state, its turns."""
