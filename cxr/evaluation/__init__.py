"""From out-of-fold predictions to tables: metrics, analyses, comparisons, and tests on images held out of it."""
