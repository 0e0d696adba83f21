"""The page that people look at. It builds on the core alone; it knows no Prefect and no Great Expectations."""
