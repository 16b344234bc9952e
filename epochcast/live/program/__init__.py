"""Estimates inside of a program, whose state is put back."""
