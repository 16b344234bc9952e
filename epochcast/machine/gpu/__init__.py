"""GPUs by their vendor: what a driver answers, and why one does not."""
