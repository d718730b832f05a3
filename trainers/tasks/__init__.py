"""What is predicted: losses and metrics of each kind of task."""
