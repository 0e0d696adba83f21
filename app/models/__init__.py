"""The view Models: packaged models and their champions."""
