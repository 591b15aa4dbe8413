"""Releases: what is served, where it lies, how it answers and what was deployed when."""
