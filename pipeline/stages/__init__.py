"""What DVC runs: one module per stage, of the stage's name."""
