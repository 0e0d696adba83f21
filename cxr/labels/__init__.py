"""Labels from tables: which image a row means, what its values mean, and one row for each image in the end."""
