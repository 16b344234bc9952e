"""Fuzzing: odd files, flags and child events, and whether a sentence comes of each. `make fuzz`, tests/test_fuzz.py."""
