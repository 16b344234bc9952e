"""Peak memory of a user's own fit, and the largest batch size that fits."""
