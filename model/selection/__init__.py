"""Which configurations to measure next."""
