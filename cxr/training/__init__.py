"""A run and its folds: begin, train, resume, predict the held-out images."""
