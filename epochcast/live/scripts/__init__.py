"""Users' scripts, run until a fit of theirs is caught and estimated."""
