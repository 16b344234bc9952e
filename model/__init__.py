"""Learning seconds per epoch from measured rows, and answering with what was learned."""
