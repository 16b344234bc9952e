"""Known GPUs: exact lookup, ratio of two GPUs, times scaled to another GPU."""
