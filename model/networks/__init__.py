"""Time, memory, energy and cost of any network on any GPU."""
