"""Files that are written whole or not at all, locks, object stores, and the names of everything on disk."""
