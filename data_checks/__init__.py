"""Great Expectations judges every table the pipeline lives on: one suite per table, named as the table."""
