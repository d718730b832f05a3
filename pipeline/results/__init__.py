"""What is written below results/: its schema, and reading it."""
