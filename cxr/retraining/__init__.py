"""A model, trained again with the images that were labelled since, and compared with its champion before it scores."""
