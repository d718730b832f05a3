"""One training or many at once: loops, balancing of losses, and how models are trained side by side."""
