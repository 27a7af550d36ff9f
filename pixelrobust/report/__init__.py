"""A results page in one file: what it is made of, and how it is written. Nothing here needs torch."""
