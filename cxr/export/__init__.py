"""From a finished run to a packaged model."""
