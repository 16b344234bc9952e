"""Strict reads, durable appends and atomic replacements of tables and files."""
