"""Measuring: one run, a grid of runs, and the recovery of rows that could not be appended."""
