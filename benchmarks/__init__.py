"""What cxr is measured against; each file runs by one command."""
