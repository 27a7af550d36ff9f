"""Networks retrained on changed images: the plan, the networks, what is measured of them, their tables."""
