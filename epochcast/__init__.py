"""Epochcast: measure, predict and plan Keras training runs on one GPU."""

__version__ = "0.1.0"
STAGES = ("workload", "collect", "aggregate", "model", "planner")  # data flows from left to right
