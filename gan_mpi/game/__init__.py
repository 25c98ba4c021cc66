"""Two players, and one update of each."""
