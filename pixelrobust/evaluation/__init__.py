"""From classifiers and images to rows: selection, forward passes, and all that is measured."""
