"""What a paper calls its model, made of modules."""
