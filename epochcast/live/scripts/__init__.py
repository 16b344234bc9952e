"""Users' scripts: run in a process of their own until a fit of theirs is caught and estimated."""
