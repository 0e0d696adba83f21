"""A data set: its manifest, near-duplicates, folds and leakage certificate."""
