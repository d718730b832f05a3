"""The stages: parameters in, one call into extractors, store or trainers, files out."""
