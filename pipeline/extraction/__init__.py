"""Computing the hidden states of recordings and files: decoded, in blocks, by threads or workers. Knows no command."""
