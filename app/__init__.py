"""The page: what people look at. It stands on the core alone, and knows no Prefect and no Great Expectations."""
