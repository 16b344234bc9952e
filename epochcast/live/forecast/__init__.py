"""A running `fit`: what is left of it, and how it is stopped in time."""
