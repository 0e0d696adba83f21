"""Archives, read in place."""
