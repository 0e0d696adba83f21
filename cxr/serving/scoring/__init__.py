"""Scoring runs: from new files in an inbox to scores that are published once."""
