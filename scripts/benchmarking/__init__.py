"""What `scripts/benchmark.py` compares, each arm a process of its own."""
