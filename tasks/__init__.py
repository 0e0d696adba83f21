"""Prefect around the core: retries, names, logs and artifacts; no work of its own."""
