"""The report of a run: its page, the verdict and its cautions, pictures, tests outside cross-validation, guidelines."""
