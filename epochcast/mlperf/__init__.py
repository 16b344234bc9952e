"""Published MLPerf Training results: their logs as a table of runs."""
