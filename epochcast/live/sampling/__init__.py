"""Samples of a training: passes of its own fit, whole epochs, validations and checkpoints."""
