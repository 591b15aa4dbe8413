"""Catalog entries of our own: every input and output that the pipelines have."""
