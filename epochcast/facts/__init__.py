"""GPUs, prices, carbon, regions and assumptions, each with its source."""
