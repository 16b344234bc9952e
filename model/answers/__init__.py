"""Answers of predict_perf: this box, other GPUs, energy, measured rows."""
