"""Work of layers, and the times that a roofline allows for it."""
