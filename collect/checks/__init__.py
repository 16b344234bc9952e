"""Whether this box, its GPU and its memory are fit for a run."""
