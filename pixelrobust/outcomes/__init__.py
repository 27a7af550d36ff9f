"""Stored rows: their kinds, their files, and the manifest of the run that found them."""
