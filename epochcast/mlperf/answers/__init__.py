"""Answers to questions about published benchmarks: times, their ranges, and the entries they rest on."""
