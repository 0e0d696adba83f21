"""Prefect tasks around the core: retries, names, logs and artifacts, but no work of their own."""
