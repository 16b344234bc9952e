"""Many runs: which, in which order, for how long."""
