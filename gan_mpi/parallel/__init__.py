"""What ranks do together: sum gradients, stay alike, normalise, share data."""
