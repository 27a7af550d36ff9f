"""Classifiers: networks with weights and normalisation, taking float images in [0, 1]."""
