"""What an update can do besides; each a function handed to the players."""
