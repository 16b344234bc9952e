"""Runs outside of their table: kept copies, reserved space, recovery."""
