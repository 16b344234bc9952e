"""Text, figures and progress bars."""
