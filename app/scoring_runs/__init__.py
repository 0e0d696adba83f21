"""The view Scoring runs: what became of each batch."""
