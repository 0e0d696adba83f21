"""ResNet-50: its weights, its devices, its speed, and where it looks."""
