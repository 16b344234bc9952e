"""Logs of MLPerf Training, as submitters handed them in, and the systems that they ran on."""
