"""Analyses that a verb of their own asks for: comparison, learning curve, stress, appraisal."""
