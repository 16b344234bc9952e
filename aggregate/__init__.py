"""From single runs to one row per configuration and conditions, and the figures of a table."""
