"""The command line: verbs, what they print, and how the process ends."""
