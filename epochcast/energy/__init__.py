"""Energy and power of a run: meter, samples, RAPL."""
