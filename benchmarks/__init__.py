"""Side-by-side and wall-clock measurements; `make bench` runs them."""
