"""Epochcast: measure, predict and plan Keras training runs on one GPU."""

__version__ = "0.1.0"
