"""Cross-validated experiments, verification, comparisons, and what answers for new utterances."""
