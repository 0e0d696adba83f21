"""One suite of Great Expectations for each table of the pipeline; each module is named after its table."""
