"""Prefect's server, workers and the page as processes of this machine."""
