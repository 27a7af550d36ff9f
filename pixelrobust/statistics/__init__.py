"""Intervals and tests over images: rates, pairs of networks, survival."""
