"""Stories told in Prefect flows, and the `cxr` command that starts them."""
