"""Named rules that a table of runs must meet."""
