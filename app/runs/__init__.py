"""The view Runs: what the folder of a run holds, section by section."""
