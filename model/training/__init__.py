"""How a time model is trained, validated and calibrated."""
