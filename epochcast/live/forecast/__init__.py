"""A running `fit`: what is left of it, when it ends, and how it is stopped in time."""
