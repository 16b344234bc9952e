"""A plan as text, figures and exports."""
