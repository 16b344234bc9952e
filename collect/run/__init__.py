"""One measured run, from flags to its row."""
