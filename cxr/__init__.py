"""The core: images in, tables out. Knows torch, numpy, pandas and scikit-learn; no Prefect, no page."""

__version__ = "0.1.0"
