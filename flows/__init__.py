"""The pipeline's stories as Prefect flows, and the `cxr` command that starts them."""
