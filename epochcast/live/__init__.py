"""Estimates of a training of any compiled Keras model, from steps of its own `fit`."""
