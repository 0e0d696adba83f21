"""The images of a data set: which files are images, of which class, and whose."""
