"""Truth that comes later: labels of scored images, joined to their scores, and whether a model keeps its promise."""
