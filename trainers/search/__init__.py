"""What is chosen by validation data: grids, search spaces, hyperparameters, layers."""
