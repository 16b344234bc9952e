"""What is asked of the planner, and the answer to it."""
