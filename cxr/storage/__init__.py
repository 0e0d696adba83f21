"""Files that are written whole or not at all, locks, object stores, and the name of every file on disk."""
