"""A study's folder: parameters, paths, manifest, transcripts, fingerprints, keys, DVC's files, templates."""
