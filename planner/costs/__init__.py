"""What a candidate run costs, and its value."""
