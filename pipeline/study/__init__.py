"""A study's folder: parameters, paths, manifest, transcripts, stores, fingerprints, keys, DVC's files, templates."""
