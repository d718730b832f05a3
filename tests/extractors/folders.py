"""Where checkpoints of miniatures lie."""

from strata.extractors.miniatures import TRANSFORMERS, miniature
from strata.extractors.transformers.miniature import make_miniature


def folder_of(name):
    """Where a miniature lies."""
    return miniature(f"miniature:{name}", tuple(TRANSFORMERS), make_miniature)
