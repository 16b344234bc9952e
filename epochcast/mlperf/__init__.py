"""Published MLPerf trainings: their logs, questions in plain words, and energy on whole nodes."""
