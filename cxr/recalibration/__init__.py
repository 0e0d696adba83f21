"""A packaged model, fitted to a few labelled images of another site, as its next version."""
