"""What a measurement depends on: host, GPU driver, framework, packages, git."""
