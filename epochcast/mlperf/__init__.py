"""Published MLPerf trainings: questions in plain words, and the energy of a training on whole nodes."""
