"""Tests outside cross-validation: the held-out test set and external ones, opened on the record."""
