"""The view Classify: images that a visitor brings, predicted by a packaged model."""
