"""A data set: its manifest, near-duplicates, folds, and the leakage certificate."""
