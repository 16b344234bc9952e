"""Two sets of runs, configuration by configuration."""
