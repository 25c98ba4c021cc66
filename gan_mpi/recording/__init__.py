"""What a run says, watches and leaves behind."""
