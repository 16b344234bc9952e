"""How well unseen configurations are predicted."""
