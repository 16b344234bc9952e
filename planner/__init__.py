"""Choosing which runs to do within a time budget."""
