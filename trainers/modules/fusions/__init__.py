"""Fusions: what the encoders of several views give, as one vector. params.yaml reads `section`, without PyTorch."""
