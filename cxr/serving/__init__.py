"""A packaged model at work: registry, predictor, explanations, scoring runs and their scores."""
