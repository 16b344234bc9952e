"""Averages of repeats, and the sets of conditions they belong to."""
