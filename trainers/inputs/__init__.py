"""What heads read: values and labels of utterances, their statistics over training rows, and batches of them."""
