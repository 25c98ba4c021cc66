"""What the command of that name does; train.py is the file to read first."""
