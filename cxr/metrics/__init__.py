"""Arrays in, numbers out: no torch, no disk."""
