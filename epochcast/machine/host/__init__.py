"""The host: cores, memory, clock, and what other programs use of them."""
