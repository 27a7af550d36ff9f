"""From classifiers and images to rows: selection, forward passes, and what is measured."""
