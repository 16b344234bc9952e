"""Networks in files: read within bounds, rebuilt without their weights or code."""
