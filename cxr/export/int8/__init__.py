"""A package in 8-bit integers: which layers, how they predict, and whether that is good enough."""
