"""Where an epoch's time goes, layer by layer."""
