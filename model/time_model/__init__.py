"""The time model: physics, ensemble, intervals, and the saved files with their card."""
