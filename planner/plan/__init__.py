"""The choice of runs within a budget, and its file."""
