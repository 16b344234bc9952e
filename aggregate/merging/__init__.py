"""Tables of runs joined into a new one."""
