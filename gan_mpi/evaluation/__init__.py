"""How alike samples and images are, over all ranks."""
