"""What answers at once: one module per command."""
