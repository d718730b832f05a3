"""What DVC runs: one module per stage, of the stage's name; the other modules are what several stages share."""
