"""A packaged model as an HTTP endpoint: predictions, explanations, and what a monitor asks for; nothing is kept."""
