"""One fold in training: its batches, its loss, its steps, and the state that a checkpoint holds."""
