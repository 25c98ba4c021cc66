"""Ranks as sites: their data, the rounds, the average of weights."""
