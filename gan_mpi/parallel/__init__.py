"""What ranks do together: sum gradients, overlap, stay alike, normalise, share data."""
