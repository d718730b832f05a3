"""The parts of heads: encoders, layer poolings, fusions."""
