"""The method: a grid of changes, its random numbers, and the changes themselves."""
