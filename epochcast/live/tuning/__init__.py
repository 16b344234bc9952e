"""Which settings make a caught fit fastest."""
