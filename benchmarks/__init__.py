"""Measurements of the program, of its limits and of alternatives; each module runs by one command."""
