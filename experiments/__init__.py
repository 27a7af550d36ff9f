"""The paper's experiments: its table numbers, captions and command line."""
