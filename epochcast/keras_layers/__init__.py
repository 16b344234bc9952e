"""Layer records of any Keras model."""
