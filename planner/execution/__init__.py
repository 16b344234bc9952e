"""A plan carried out within its budget."""
