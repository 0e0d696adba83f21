"""A packaged model at another place: pushed to a folder, a bucket or the Hugging Face Hub, and pulled from there."""
