"""Times of published MLPerf trainings, learned from the entries of all rounds."""
